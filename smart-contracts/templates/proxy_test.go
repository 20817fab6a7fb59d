package templates_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

// section is a section of a module.
func section(id byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
}

// answering is a module whose entries all answer the same, whatever they are called with;
// without an answer they stop.
func answering(text string) []byte {
	entry := []byte{4, 0, 0x41, 32, 0x0b} // i32.const 32: the region of the answer
	if text == "" {
		entry = []byte{3, 0, 0, 0x0b} // unreachable
	}
	types := []byte{4, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 0, 0x60, 0, 0, 0x60, 3, 0x7f, 0x7f, 0x7f, 1, 0x7f}
	exports := []byte{7}
	for i, name := range []string{"allocate", "deallocate", "interface_version_8", "instantiate", "execute"} {
		exports = append(append(append(exports, byte(len(name))), name...), 0, byte(i))
	}
	exports = append(append(append(exports, 6), "memory"...), 2, 0)
	exports = append(append(append(exports, 7), "migrate"...), 0, 5)
	code := []byte{6, 4, 0, 0x41, 16, 0x0b, 2, 0, 0x0b, 2, 0, 0x0b} // i32.const 16: a region for what is given to it
	for range 2 {
		code = append(code, 4, 0, 0x41, 32, 0x0b)
	}
	code = append(code, entry...)
	var data []byte
	for _, n := range []uint32{1024, 60_000, 0, 0, 48, uint32(len(text)), uint32(len(text)), 0} {
		data = binary.LittleEndian.AppendUint32(data, n)
	}
	data = append(data, text...)
	head := binary.AppendUvarint([]byte{1, 0, 0x41, 16, 0x0b}, uint64(len(data)))
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), section(1, types), section(3, []byte{6, 0, 1, 2, 3, 3, 3}), section(5, []byte{1, 0, 1}),
		section(7, exports), section(10, code), section(11, append(head, data...)))
}

// upgrades is a proxy with a target that has code 2; 3 is other code, 4 code that does not
// let itself be migrated to.
type upgrades struct {
	*contract
	target harness.Address
	sums   map[uint64]string
}

const proxyBegin = `{"governor":"@alice","guardian":"@bob","delay":100,"grace":60}`

func newUpgrades(t *testing.T) *upgrades {
	t.Helper()
	u := &upgrades{contract: deploy(t, "proxy"), sums: map[uint64]string{}}
	for _, text := range []string{"one", "two", ""} {
		module := answering("")
		if text != "" {
			module = answering(fmt.Sprintf(`{"ok":{"messages":[],"attributes":[{"key":"code","value":%q}],"events":[]}}`, text))
		}
		u.sums[u.store(t, module)] = fmt.Sprintf("%x", sha256.Sum256(module))
	}
	admin := account("alice").Address()
	_, err := u.Instantiate(account("alice"), u.code, u.text(proxyBegin), harness.Making{Admin: &admin})
	if refused, ok := errors.AsType[*harness.Refused](err); !ok || refused.Words != "a proxy with an admin locks nothing" {
		t.Errorf("a proxy that can be migrated itself: %v", err)
	}
	if _, refusal := u.instantiate(t, "alice", proxyBegin); refusal != "" {
		t.Fatal(refusal)
	}
	u.target = u.made(t, "target", 2, "{}", harness.Making{Admin: &u.at})
	return u
}

// runs is the code that the target has.
func (u *upgrades) runs(t *testing.T) uint64 {
	t.Helper()
	c, ok := u.Contract(u.target)
	if !ok {
		t.Fatal("the target is gone")
	}
	return c.Code
}

// migrates schedules a migration of the target.
func (u *upgrades) migrates(code uint64) string {
	return fmt.Sprintf(`{"schedule":{"step":{"migrate":{"target":%q,"code_id":%d,"msg":"e30="}},"note":"https://x"}}`, u.target, code)
}

// TestProxy migrates its target after the lock, to what was published.
func TestProxy(t *testing.T) {
	u := newUpgrades(t)
	if _, err := u.Migrate(account("alice"), u.target, 3, "{}"); err == nil || !strings.HasPrefix(err.Error(), "sdk 4: ") {
		t.Errorf("past the proxy: %v", err)
	}
	u.refused(t, "bob", u.migrates(3), "only the governor may")
	r := u.must(t, "alice", u.migrates(3))
	if said(r, "from") != u.sums[2] || said(r, "to") != u.sums[3] || said(r, "ready") != fmt.Sprint(u.now()+100e9) {
		t.Errorf("what is published: %+v", r)
	}
	diff := fmt.Sprintf(`{"migrate":{"target":%q,"from":{"code_id":2,"checksum":%q},"to":{"code_id":3,"checksum":%q},"msg":"e30="}}`, u.target, u.sums[2], u.sums[3])
	shown := fmt.Sprintf(`{"id":1,"step":%s,"note":"https://x","ready":"%d","over":"%d","status":"STATUS"}`, diff, u.now()+100e9, u.now()+160e9)
	for _, status := range []string{"waiting", "waiting", "ready"} {
		u.answers(t, `{"decision":{"id":1}}`, strings.Replace(shown, "STATUS", status, 1))
		if status == "waiting" {
			u.refused(t, "alice", `{"apply":{"decision":1}}`, "it is waiting")
			u.pass(t, 50*time.Second)
		}
	}
	u.refused(t, "bob", `{"apply":{"decision":1}}`, "only the governor may")
	done, err := u.Execute(account("alice"), u.at, `{"apply":{"decision":1}}`)
	if err != nil || done.Attribute(u.target, "code") != "two" || u.runs(t) != 3 {
		t.Errorf("after it was applied the target has code %d, %+v, %v", u.runs(t), done, err)
	}
	u.refused(t, "alice", `{"apply":{"decision":1}}`, "it is applied")
	u.answers(t, `{"decisions":{}}`, `{"decisions":[`+strings.Replace(shown, "STATUS", "applied", 1)+`]}`)
	u.answers(t, `{"decisions":{"start_before":1}}`, `{"decisions":[]}`)
}

// TestProxyChangesItsMind: what is cancelled, over, or of another target than was published, is not applied.
func TestProxyChangesItsMind(t *testing.T) {
	u := newUpgrades(t)
	for range 3 {
		u.must(t, "alice", u.migrates(3))
	}
	u.refused(t, "carol", `{"cancel":{"decision":1}}`, "only the governor and the guardian may")
	u.must(t, "bob", `{"cancel":{"decision":1}}`)
	u.pass(t, 100*time.Second)
	u.refused(t, "alice", `{"apply":{"decision":1}}`, "it is cancelled")
	u.refused(t, "bob", `{"cancel":{"decision":1}}`, "it is cancelled")
	u.must(t, "alice", `{"apply":{"decision":2}}`)
	u.refused(t, "alice", `{"apply":{"decision":3}}`, "the target has other code by now")
	u.pass(t, 60*time.Second)
	u.refused(t, "alice", `{"apply":{"decision":3}}`, "it is over")
	u.refused(t, "alice", `{"cancel":{"decision":3}}`, "it is over")
	// Code that stops: the decision stands as it was.
	u.must(t, "alice", u.migrates(4))
	u.pass(t, 100*time.Second)
	if _, refusal := u.execute(t, "alice", `{"apply":{"decision":4}}`); !strings.HasPrefix(u.rejection, "wasm 11: ") || u.runs(t) != 3 {
		t.Errorf("code that stops: %q, %s, %d", refusal, u.rejection, u.runs(t))
	}
	if got := u.query(t, `{"decision":{"id":4}}`); !strings.Contains(got, `"status":"ready"`) {
		t.Error(got)
	}
	for msg, want := range map[string]string{
		u.migrates(3): "it has that code already",
		u.migrates(9): "query: no_such_code",
		strings.Replace(u.migrates(2), "e30=", "e30", 1):                                     "JSON: not base64",
		strings.Replace(u.migrates(2), "https://x", strings.Repeat("x", 1_025), 1):           "the note is too long",
		strings.Replace(u.migrates(2), u.target.String(), u.at.String(), 1):                  "the proxy is not its admin",
		strings.Replace(u.migrates(2), u.target.String(), account("bob").String(), 1):        "query: no_such_contract",
		strings.Replace(u.migrates(2), "migrate", "burn", 1):                                 "unknown step burn",
		`{"schedule":{"step":{"settings":{"governor":"@bob","delay":0,"grace":60}}}}`:        "a delay is from a second to a year",
		`{"schedule":{"step":{"settings":{"governor":"@bob","delay":1,"grace":59}}}}`:        "a time of grace is from a minute to a year",
		`{"schedule":{"step":{"settings":{"governor":"@bob","delay":31622401,"grace":60}}}}`: "a delay is from a second to a year",
		`{"schedule":{"step":{"settings":{"governor":"@bob","delay":1,"grace":31622401}}}}`:  "a time of grace is from a minute to a year",
		`{"schedule":{"step":{"settings":{"governor":"bobby","delay":1,"grace":60}}}}`:       "address: invalid address",
		`{"sweep":{}}`:             "unknown message sweep",
		`{"apply":{"decision":9}}`: "decisions not found",
	} {
		u.refused(t, "alice", msg, want)
	}
	u.stateful().refused(t, "alice", strings.Replace(u.migrates(2), "e30=", "e3s=", 1), "JSON: malformed")
	u.fund(t, 1, "alice")
	u.refused(t, "alice", u.migrates(2), "no funds are taken", 1)
}

// TestProxySettings: who decides, and to whom the target goes, waits as well.
func TestProxySettings(t *testing.T) {
	u := newUpgrades(t)
	u.must(t, "alice", `{"schedule":{"step":{"settings":{"governor":"@dave","delay":1,"grace":60}}}}`)
	u.must(t, "alice", fmt.Sprintf(`{"schedule":{"step":{"hand_over":{"target":%q,"admin":"@carol"}}}}`, u.target))
	u.must(t, "alice", u.migrates(3))
	u.refused(t, "alice", `{"apply":{"decision":1}}`, "it is waiting")
	u.pass(t, 100*time.Second)
	u.must(t, "alice", `{"apply":{"decision":1}}`)
	u.answers(t, `{"settings":{}}`, `{"governor":"@dave","guardian":null,"delay":1,"grace":60}`)
	u.refused(t, "alice", `{"apply":{"decision":2}}`, "only the governor may")
	u.refused(t, "bob", `{"cancel":{"decision":2}}`, "only the governor and the guardian may")
	u.must(t, "dave", `{"apply":{"decision":2}}`)
	u.refused(t, "dave", `{"apply":{"decision":3}}`, "the proxy is not its admin")
	u.refused(t, "dave", u.migrates(3), "the proxy is not its admin")
	if _, err := u.Migrate(account("carol"), u.target, 3, "{}"); err != nil {
		t.Error(err)
	}
	// To nobody, for good.
	u.target = u.made(t, "target", 2, "{}", harness.Making{Admin: &u.at})
	u.must(t, "dave", fmt.Sprintf(`{"schedule":{"step":{"hand_over":{"target":%q}}}}`, u.target))
	u.pass(t, time.Second)
	u.must(t, "dave", `{"apply":{"decision":4}}`)
	if c, ok := u.Contract(u.target); !ok || c.Admin != nil {
		t.Errorf("the target's admin is %s", c.Admin)
	}
}

// TestProxyHistories schedules, applies and cancels at random: the target has the code that
// was published before it, a lock long.
func TestProxyHistories(t *testing.T) {
	u := newUpgrades(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	type decision struct {
		from, to, ready uint64
		end             string
	}
	var all []*decision
	code, applied := uint64(2), 0
	for range 4_000 {
		u.pass(t, time.Duration(r.Uint64N(20))*time.Second)
		who, id := []string{"alice", "alice", "alice", "alice", "bob", "carol"}[r.IntN(6)], max(r.IntN(len(all)+1), len(all)-4)
		if id == len(all) || r.IntN(10) == 0 {
			to := 2 + r.Uint64N(2)
			switch msg := u.migrates(to); {
			case who != "alice":
				u.refused(t, who, msg, "only the governor may")
			case to == code:
				u.refused(t, who, msg, "it has that code already")
			default:
				u.must(t, who, msg)
				all = append(all, &decision{from: code, to: to, ready: u.now() + 100e9})
			}
			continue
		}
		d := all[id]
		status := d.end
		switch {
		case status != "":
		case u.next() >= d.ready+60e9:
			status = "over"
		case u.next() >= d.ready:
			status = "ready"
		default:
			status = "waiting"
		}
		if cancel := fmt.Sprintf(`{"cancel":{"decision":%d}}`, id+1); r.IntN(8) == 0 {
			switch {
			case who == "carol":
				u.refused(t, who, cancel, "only the governor and the guardian may")
			case status != "waiting" && status != "ready":
				u.refused(t, who, cancel, "it is "+status)
			default:
				u.must(t, who, cancel)
				d.end = "cancelled"
			}
			continue
		}
		switch apply := fmt.Sprintf(`{"apply":{"decision":%d}}`, id+1); {
		case who != "alice":
			u.refused(t, who, apply, "only the governor may")
		case status != "ready":
			u.refused(t, who, apply, "it is "+status)
		case d.from != code:
			u.refused(t, who, apply, "the target has other code by now")
		default:
			u.must(t, who, apply)
			d.end, code = "applied", d.to
			applied++
		}
		if u.runs(t) != code {
			t.Fatalf("the target has code %d, want %d", u.runs(t), code)
		}
	}
	t.Logf("%d decisions, %d applied", len(all), applied)
}

// TestProxyOfMultisig: a multisig decides, each decision after its own delay and then the
// proxy's.
func TestProxyOfMultisig(t *testing.T) {
	u := newUpgrades(t)
	module, _ := load(t, "multisig")
	three := u.stateful()
	three.at = u.made(t, "three", u.store(t, module), multisigBegin, harness.Making{})
	u.must(t, "alice", fmt.Sprintf(`{"schedule":{"step":{"settings":{"governor":%q,"delay":100,"grace":500}}}}`, three.at))
	u.pass(t, 100*time.Second)
	u.must(t, "alice", `{"apply":{"decision":1}}`)
	u.refused(t, "alice", u.migrates(3), "only the governor may")
	for i, msg := range []string{u.migrates(3), `{"apply":{"decision":2}}`} {
		three.must(t, "alice", proposes(fmt.Sprintf(`{"wasm":{"execute":{"contract_addr":%q,"msg":%q,"funds":[]}}}`, u.at, base64Of(msg))))
		three.must(t, "bob", fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":"yes"}}`, i+1))
		perform := fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, i+1)
		three.refused(t, "dave", perform, "it waits still")
		u.pass(t, 100*time.Second)
		if i == 1 {
			u.refused(t, "alice", `{"apply":{"decision":2}}`, "only the governor may")
		}
		three.must(t, "dave", perform)
	}
	if u.runs(t) != 3 {
		t.Errorf("the target has code %d", u.runs(t))
	}
}
