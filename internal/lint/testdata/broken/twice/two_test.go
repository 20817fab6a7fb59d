// Package twice has a third one in a test.
package twice
