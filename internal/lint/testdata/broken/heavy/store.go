//go:build never

package heavy

import _ "github.com/cockroachdb/pebble/v2/vfs"
