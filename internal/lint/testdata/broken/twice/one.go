// Package twice has two package comments.
package twice
