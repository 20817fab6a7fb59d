package replica

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Restore makes a replica from the application's floor and the logs that are on
// the disk, in any order. Nothing is done before Start. It returns an error for
// a configuration or a floor that contradicts itself, and for a log that cannot
// be read or is another chain's, epoch's or key's: consensus.ErrForeignLog.
func Restore(cfg Config, floor Floor, logs []Log) (*Replica, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &Replica{
		cfg: cfg, begun: cfg.Begun, logs: map[consensus.Epoch][][]byte{}, peers: map[crypto.PublicKey]*peer{},
		early: early{counts: map[crypto.PublicKey]int{}},
		catch: catchUp{behindAt: never, nextAt: never}, sentry: newSentry(cfg),
	}
	r.stable = head{height: floor.Height, digest: floor.Digest, closing: floor.Closing}
	r.taken, r.tip = r.stable, r.stable
	if err := r.findEpoch(floor); err != nil {
		return nil, err
	}
	for _, l := range logs {
		if _, twice := r.logs[l.Epoch]; twice {
			return nil, fmt.Errorf("replica: two logs of epoch %d", l.Epoch)
		}
		r.logs[l.Epoch] = l.Records
		if len(l.Records) > 0 {
			r.begun = max(r.begun, l.Epoch)
		}
	}
	for _, l := range logs {
		if l.Epoch < r.epoch {
			r.outlived = append(r.outlived, l.Epoch)
		}
	}
	if err := r.restoreCore(floor); err != nil {
		return nil, err
	}
	r.publish()
	return r, nil
}

// findEpoch learns the reigns and the epoch of the block above the floor.
func (r *Replica) findEpoch(floor Floor) error {
	if len(floor.Reigns) == 0 || floor.Reigns[0].Committee == nil {
		return errors.New("replica: floor: no reigns, or one without a committee")
	}
	r.epoch = floor.Reigns[0].Committee.Epoch()
	if floor.Certificate != nil {
		r.epoch = floor.Certificate.Statement.Round().Epoch
	}
	known, err := reigns(nil).merge(floor.Reigns, r.epoch)
	if err != nil {
		return fmt.Errorf("replica: floor: %w", err)
	}
	r.reigns = known
	if f := floor.Certificate; f != nil {
		in := known.of(r.epoch)
		if in == nil {
			return fmt.Errorf("replica: floor: no reign of its certificate's epoch %d", r.epoch)
		}
		if err := f.Verify(in.Committee, r.cfg.ChainID); err != nil {
			return fmt.Errorf("replica: floor: %w", err)
		}
		if floor.Closing {
			r.epoch++
		}
	} else if floor.Closing {
		return errors.New("replica: floor: a closing block without a certificate")
	}
	now := known.of(r.epoch)
	if now == nil || now.Start.IsZero() {
		return fmt.Errorf("replica: floor: epoch %d has no start", r.epoch)
	}
	if (floor.Certificate == nil || floor.Closing) && now.Start != floor.Digest {
		return fmt.Errorf("replica: floor: epoch %d starts at %s, not at %s", r.epoch, now.Start.Short(), floor.Digest.Short())
	}
	if known.of(r.epoch+1) == nil {
		return fmt.Errorf("replica: floor: no committee of epoch %d", r.epoch+1)
	}
	return nil
}

func (r *Replica) restoreCore(floor Floor) error {
	now := r.reigns.of(r.epoch)
	cfg := r.coreConfig(now)
	if floor.Certificate == nil && r.cfg.Fresh && now.Committee.Epoch() > r.begun {
		cfg.Fresh = cfg.Keys
	}
	on := consensus.Floor{Digest: floor.Digest, Empty: floor.Empty, Certificate: floor.Certificate}
	if floor.Closing {
		on.Certificate = nil
		r.remember(floor.Certificate)
		if before := r.logs[r.epoch-1]; len(r.logs[r.epoch]) == 0 && len(before) > 0 {
			old, err := r.closedCore(floor, before)
			if err != nil {
				return err
			}
			cfg.Carried = old.Evidence()
			if r.epoch > r.begun {
				cfg.Fresh = old.Complete()
			}
		}
	}
	core, err := consensus.Restore(cfg, on, r.logs[r.epoch])
	if err != nil {
		return fmt.Errorf("replica: log of epoch %d: %w", r.epoch, err)
	}
	delete(r.logs, r.epoch)
	r.core = core
	r.observe()
	r.offers = make([]consensus.View, now.Committee.Len())
	return nil
}

// closedCore restores the core of the epoch that the floor closed.
func (r *Replica) closedCore(floor Floor, records [][]byte) (*consensus.Core, error) {
	cfg := r.coreConfig(r.reigns.of(r.epoch - 1))
	on := consensus.Floor{Digest: floor.Digest, Empty: floor.Empty, Closing: true, Certificate: floor.Certificate}
	old, err := consensus.Restore(cfg, on, records)
	if err != nil {
		return nil, fmt.Errorf("replica: log of epoch %d: %w", r.epoch-1, err)
	}
	return old, nil
}

// coreConfig is the configuration of the reign's core, not fresh.
func (r *Replica) coreConfig(in *reign) consensus.Config {
	cfg := consensus.Config{
		ChainID: r.cfg.ChainID, Committee: in.Committee, Start: in.Start,
		Timing: r.cfg.Timing, Retention: r.cfg.Retention, Verify: r.cfg.Verify,
	}
	if in.Committee.Epoch() >= r.begun { // a log of an epoch below is an old copy, or of no more use
		for _, k := range r.cfg.Keys {
			cfg.Keys = append(cfg.Keys, k.Public())
		}
	}
	for _, k := range r.cfg.Keys {
		if _, member := in.Committee.IndexOf(k.Public()); member {
			cfg.Key = k
			break
		}
	}
	return cfg
}

// remember keeps the certificate that ended an epoch, for stragglers.
func (r *Replica) remember(final *consensus.Certificate) {
	next := r.reigns.of(final.Statement.Round().Epoch + 1)
	if next == nil || next.Final != nil || next.Start != final.Statement.Proposal.Digest {
		return
	}
	with := *next
	with.Final = final
	rs := append(reigns(nil), r.reigns...)
	rs[with.Committee.Epoch()-rs[0].Committee.Epoch()] = &with
	r.reigns = rs
}
