// Package unlisted is no room.
package unlisted
