package groth16

import (
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/multicommit"

	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	groupStart = "start"
	groupEnd   = "end"
	groupBind  = "bind"
)

// hashchainCircuit states: End is Start hashed as many times as there are steps.
//
// First is Start as a private wire. The commitment covers it and serves as no
// challenge: it is there because every proof has one.
type hashchainCircuit struct {
	Start frontend.Variable `gnark:",public"`
	End   frontend.Variable `gnark:",public"`
	Bind  frontend.Variable `gnark:",public"`

	First frontend.Variable

	steps int
	lacks *omission
}

func newHashchainCircuit(steps int) *hashchainCircuit { return &hashchainCircuit{steps: steps} }

func assignHashchain(s zk.Statement) *hashchainCircuit {
	return &hashchainCircuit{Start: s.Inputs[0][:], End: s.Output[0][:], Bind: s.Bind[:], First: s.Inputs[0][:]}
}

// Define builds the constraints.
func (c *hashchainCircuit) Define(api frontend.API) error {
	a := &asserter{api: api, lacks: c.lacks}
	constrainPublics(api, c.Start, c.End)
	if a.asserts(groupBind) {
		constrainPublics(api, c.Bind)
	}
	a.equal(groupStart, c.Start, c.First)
	at := c.First
	for range c.steps {
		var err error
		if at, err = sponge(api, zk.SpongeHashchain, []frontend.Variable{at}); err != nil {
			return err
		}
	}
	a.equal(groupEnd, at, c.End)
	multicommit.WithCommitment(api, idleChallenge, c.First)
	return nil
}

// idleChallenge puts a challenge that nothing needs into a constraint, so that
// its point in the verifying key is not at infinity.
func idleChallenge(api frontend.API, challenge frontend.Variable) error {
	api.Mul(challenge, challenge)
	return nil
}
