package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// A server that does not lead sends its clients' commands to the leader, many in
// one request. Order, specification and blobs have been checked here: the leader
// puts them into its log.

// maxCommandsBody bounds a request: the commands of a batch and their heads.
const maxCommandsBody = max(maxBatchBytes, scheduler.MaxCommandBytes) + 8*scheduler.MaxCommands

// commandBatch is the request.
type commandBatch struct {
	_        struct{} `cbor:",toarray"`
	Commands [][]byte
}

// commandAnswers is the answer: one for each command.
type commandAnswers struct {
	_       struct{} `cbor:",toarray"`
	Answers []commandAnswer
}

// commandAnswer is what became of a command.
type commandAnswer struct {
	_     struct{} `cbor:",toarray"`
	Index uint64   // of its entry; 0: it may be in none
	Rule  string   // with a rejection
	Text  string
	Took  *accepted // the order, if it was not rejected
}

// accepted is what the leader says of an order that it has accepted: all that
// whoever sent it does not know.
type accepted struct {
	_             struct{} `cbor:",toarray"`
	Acceptance    chain.Acceptance
	AcceptanceSig crypto.Signature
	Status        job.Status
	Reason        string
	Submitted     chain.TimeMs
	Changed       chain.TimeMs
}

// toLeader sends a batch to the leader.
func (s *Server) toLeader(ctx context.Context, commands [][]byte) func() []outcome {
	return func() []outcome {
		leader, changed := s.awaitLeader(ctx)
		switch {
		case leader.IsZero():
			return each(len(commands), outcome{err: errNoLeader})
		case leader == s.self:
			return s.toLog(ctx, commands)()
		}
		ctx, cancel := context.WithTimeout(ctx, applyTimeout)
		defer cancel()
		go func() { // ends with the request; the leader may be gone without a word
			select {
			case <-changed:
				cancel()
			case <-ctx.Done():
			}
		}()
		out, err := s.askToApply(ctx, leader, commands)
		if err != nil {
			s.log.Info("commands not brought to the leader", "leader", leader.Short(), "commands", len(commands), "error", err)
			return each(len(commands), outcome{err: fmt.Errorf("%w: %w", errNoLeader, err)})
		}
		return out
	}
}

// askToApply is the request of toLeader.
func (s *Server) askToApply(ctx context.Context, leader crypto.PublicKey, commands [][]byte) ([]outcome, error) {
	body := codec.Marshal(commandBatch{Commands: commands})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, peerURL(leader)+commandsPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxCommandsBody))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("server %s answered %s", leader.Short(), answer.Status)
	}
	var said commandAnswers
	if err := codec.Unmarshal(raw, &said, maxCommandsBody); err != nil {
		return nil, err
	}
	if len(said.Answers) != len(commands) {
		return nil, fmt.Errorf("server %s answered %d of %d commands", leader.Short(), len(said.Answers), len(commands))
	}
	out := make([]outcome, len(commands))
	for i, a := range said.Answers {
		out[i].index, out[i].took = a.Index, a.Took
		switch {
		case a.Rule != "":
			out[i].err = &scheduler.Rejection{Rule: a.Rule, Text: a.Text}
		case a.Index == 0:
			out[i].err = fmt.Errorf("%w: %s", errNoLeader, a.Text)
		}
	}
	return out, nil
}

// takeCommands is what askToApply asks for.
func (s *Server) takeCommands(w http.ResponseWriter, r *http.Request) {
	if s.current.Load() == nil {
		http.Error(w, "this server does not lead", http.StatusServiceUnavailable)
		return
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxCommandsBody+1))
	var batch commandBatch
	if err == nil {
		err = codec.Unmarshal(raw, &batch, maxCommandsBody)
	}
	if err != nil || len(batch.Commands) > scheduler.MaxCommands {
		http.Error(w, "not a batch of commands", http.StatusBadRequest)
		return
	}
	waiting, orders := make([]<-chan outcome, len(batch.Commands)), make([]crypto.Digest, len(batch.Commands))
	for i, raw := range batch.Commands {
		waiting[i], orders[i] = s.queueForwarded(raw)
	}
	said := commandAnswers{Answers: make([]commandAnswer, len(waiting))}
	for i, done := range waiting {
		o := <-done
		a := &said.Answers[i]
		a.Index = o.index
		if rejected, ok := errors.AsType[*scheduler.Rejection](o.err); ok {
			a.Rule, a.Text = rejected.Rule, short(rejected.Text)
		} else if o.err != nil {
			a.Index, a.Text = 0, short(o.err.Error())
		} else {
			a.Took = s.accepted(orders[i])
		}
	}
	if _, err := w.Write(codec.Marshal(said)); err != nil {
		s.log.Info("answering commands of another server", "error", err)
	}
}

// queueForwarded queues another server's command, if it is one that servers
// forward: an entry with a command that does not decode would be lost whole.
func (s *Server) queueForwarded(raw []byte) (<-chan outcome, crypto.Digest) {
	refused := make(chan outcome, 1)
	command, err := scheduler.DecodeCommand(raw)
	submit, ok := command.(scheduler.Submit)
	if err != nil || !ok {
		refused <- outcome{err: &scheduler.Rejection{Rule: "form", Text: fmt.Sprintf("a %T is not forwarded: %v", command, err)}}
		return refused, crypto.Digest{}
	}
	if err := s.replica.suspects.check(submit); err != nil {
		refused <- outcome{err: err}
		return refused, submit.Order.ID()
	}
	return s.batches.queueFor(submit.Order.ConsumerAddress(), raw), submit.Order.ID()
}

// accepted returns what this server knows of an order that it has accepted.
func (s *Server) accepted(order crypto.Digest) (out *accepted) {
	s.replica.view(func(state *scheduler.State) {
		if j, ok := state.Job(order); ok {
			out = &accepted{
				Acceptance: j.Acceptance, Status: j.Status, Reason: short(j.Reason), Submitted: j.Submitted, Changed: j.Changed,
			}
		}
	})
	if out != nil {
		out.AcceptanceSig = s.signer.acceptance(&out.Acceptance)
	}
	return out
}
