// Package high is above.
package high

// Up is up.
const Up = 1
