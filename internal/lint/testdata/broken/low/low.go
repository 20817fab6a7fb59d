// Package low imports upward.
package low

import "example.org/broken/high"

// Up is from above.
const Up = high.Up
