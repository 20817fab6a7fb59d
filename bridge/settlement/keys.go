package settlement

import (
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Prefix begins every key of this package.
const Prefix = 'b'

const (
	kindProvider   = 'p'
	kindCluster    = 'c'
	kindEscrow     = 'e'
	kindOrder      = 'o'
	kindClaim      = 'r'
	kindExpiry     = 'x'
	kindLease      = 'l'
	kindLeaseEnd   = 'q'
	kindChannel    = 'h'
	kindChannelEnd = 'w'
	kindRoll       = 'v'
	kindRollLen    = 'V'
	kindDraw       = 'd'
	kindDeadline   = 't'
	kindPanel      = 'j'
	kindOpenClaim  = 'a'
	kindRuns       = 'g'
	kindOwned      = 'n'
	kindBehind     = 'z'
	kindMeter      = 'k'
	kindMetered    = 'K'
	kindBreach     = 'y'
	kindLoss       = 'Y'
	kindMark       = 'f'
	kindMarkEnd    = 'F'
	kindService    = 's'
	kindFormer     = 'S'
	kindHardware   = 'u'
	kindLeased     = 'U'
	kindHome       = 'i'
)

func keyOf(kind byte, parts ...[]byte) []byte {
	key := make([]byte, 0, 2+3*crypto.DigestSize)
	key = append(key, Prefix, kind)
	for _, p := range parts {
		key = append(key, p...)
	}
	return key
}

func big(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// ProviderKey returns the key of a provider node's record.
func ProviderKey(node crypto.PublicKey) []byte { return keyOf(kindProvider, node[:]) }

// ownedKey returns the key that lists a node under its owner.
func ownedKey(owner chain.Address, node crypto.PublicKey) []byte {
	return keyOf(kindOwned, owner[:], node[:])
}

// MeterKey returns the key of a node's metering key.
func MeterKey(node crypto.PublicKey) []byte { return keyOf(kindMeter, node[:]) }

// meteredKey returns the key that says whose a metering key is.
func meteredKey(key chain.MeterKey) []byte { return keyOf(kindMetered, key[:]) }

// ClusterKey returns the key of a cluster's record.
func ClusterKey(cluster crypto.PublicKey) []byte { return keyOf(kindCluster, cluster[:]) }

// EscrowKey returns the key of a consumer's escrow at a cluster.
func EscrowKey(consumer chain.Address, cluster crypto.PublicKey) []byte {
	return keyOf(kindEscrow, consumer[:], cluster[:])
}

// OrderKey returns the key of an order's record.
func OrderKey(order crypto.Digest) []byte { return keyOf(kindOrder, order[:]) }

// ClaimKey returns the key of a claim's record.
func ClaimKey(c chain.ClaimKey) []byte {
	return keyOf(kindClaim, c.Order[:], c.Node[:], big(c.Sequence))
}

// bondOrigin is the origin in tokens' queue of a bond that matures. It names the
// owner: a node may have two owners within one block.
func bondOrigin(key []byte, owner chain.Address) []byte { return slices.Concat(key, owner[:]) }

func expiryKey(at chain.TimeMs, order []byte) []byte {
	return keyOf(kindExpiry, big(uint64(at)), order)
}

// LeaseKey returns the key of a lease's record: those of a node are next to each other.
func LeaseKey(id chain.LeaseID) []byte { return keyOf(kindLease, id.Node[:], id.Order[:]) }

// ChannelKey returns the key of a channel's record.
func ChannelKey(id chain.ChannelID) []byte { return keyOf(kindChannel, id[:]) }

func channelEndKey(at uint64, id chain.ChannelID) []byte {
	return keyOf(kindChannelEnd, big(at), id[:])
}

func rollKey(seat uint64) []byte { return keyOf(kindRoll, big(seat)) }

func rollLenKey() []byte { return keyOf(kindRollLen) }

func drawKey(at chain.Height, part part, id crypto.Digest) []byte {
	return keyOf(kindDraw, big(uint64(at)), []byte{byte(part)}, id[:])
}

func deadlineKey(at uint64, part part, id crypto.Digest) []byte {
	return keyOf(kindDeadline, big(at), []byte{byte(part)}, id[:])
}

// RunsKey returns the key of the runs of an order under PolicyReplicate.
func RunsKey(order crypto.Digest) []byte { return keyOf(kindRuns, order[:]) }

// ServiceKey returns the key of what is promised of the lease that an order opened.
func ServiceKey(order crypto.Digest) []byte { return keyOf(kindService, order[:]) }

// FormerServiceKey returns the key of what was promised of the lease that an order opened, under
// terms that a resize has put an end to.
func FormerServiceKey(order crypto.Digest) []byte { return keyOf(kindFormer, order[:]) }

// HardwareKey returns the key of the challenges of a node's hardware.
func HardwareKey(node crypto.PublicKey) []byte { return keyOf(kindHardware, node[:]) }

// PanelKey returns the key of a panel's record.
func PanelKey(id crypto.Digest) []byte { return keyOf(kindPanel, id[:]) }

// ValueOf says what the record under a key of this package holds.
func ValueOf(key, value []byte) (tokens.Class, chain.Amount) {
	switch key[1] {
	case kindProvider:
		return tokens.HoldsBond, decodeProvider(key, value).Bond
	case kindCluster:
		return tokens.HoldsBond, state.Decode[Cluster](key, value).Bond
	case kindEscrow:
		return tokens.HoldsEscrow, decodeEscrow(key, value).Balance
	case kindLease:
		return tokens.HoldsEscrow, decodeLease(key, value).Held
	case kindService, kindFormer:
		if s := state.Decode[Service](key, value); s.Over != nil {
			return tokens.HoldsEscrow, s.Over.Held
		}
	case kindOpenClaim:
		o := state.Decode[OpenClaim](key, value)
		return tokens.HoldsEscrow, o.held()
	case kindBreach:
		if len(key) == 2+crypto.PublicKeySize {
			b := state.Decode[Breach](key, value)
			return tokens.HoldsEscrow, b.Held
		}
	case kindRuns:
		return tokens.HoldsEscrow, state.Decode[Runs](key, value).Held
	case kindPanel:
		return tokens.HoldsEscrow, state.Decode[Panel](key, value).Fee
	case kindChannel:
		return tokens.HoldsEscrow, state.Decode[Channel](key, value).Held
	}
	return tokens.HoldsNothing, chain.Amount{}
}
