package groth16

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// VerifyingKeyDir is where homes have the verifying keys that their genesis pins: KERNEL.vk, in
// hexadecimal digits.
const VerifyingKeyDir = "verifying-keys"

// OpenVerifier reads from a home the verifying key of each kernel, which must be the one that is
// pinned.
func OpenVerifier(home string, pinned map[string]crypto.Digest) (*Verifier, error) {
	keys := make(map[zk.Kernel][]byte, len(pinned))
	for _, kernel := range slices.Sorted(maps.Keys(pinned)) {
		text, err := os.ReadFile(filepath.Join(home, VerifyingKeyDir, kernel+".vk"))
		if err != nil {
			return nil, fmt.Errorf("reading the verifying key of %s: %w", kernel, err)
		}
		key, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("verifying key of %s: %w", kernel, err)
		}
		if got := VerifyingKeyDigest(key); got != pinned[kernel] {
			return nil, fmt.Errorf("verifying key of %s is %s, genesis pins %s", kernel, got.Short(), pinned[kernel].Short())
		}
		keys[zk.Kernel(kernel)] = key
	}
	return NewVerifier(keys)
}
