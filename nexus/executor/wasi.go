package executor

import (
	"encoding/binary"
	"fmt"

	"github.com/bytecodealliance/wasmtime-go/v44"
)

// wasiModule is the import module of preview 1.
const wasiModule = "wasi_snapshot_preview1"

// FuelPerMillisecond is how much fuel a program uses in a millisecond of one
// core: measured at 4 to 5 units a nanosecond on a server core of 2026, for
// arithmetic and for what the Go compiler makes. A program's clocks advance by
// it in ModeDeterministic.
const FuelPerMillisecond = 1_000_000 * fuelPerNano

const fuelPerNano = 5

// What host calls cost, beside the instructions around them, so that fuel
// stands for time there too. Replicas compare fuel, and orders are paid by it:
// a change here makes old and new executors differ.
const (
	fuelCall  = 5_000  // any host call: about a microsecond
	fuelPath  = 20_000 // one that resolves a path
	fuelByte  = 4      // each byte moved between program and host
	fuelEntry = 1_000  // each entry of a directory that is listed or moved
)

// args are a host call's parameters, zero-extended.
type args [9]uint64

func (a *args) u32(i int) uint32 { return uint32(a[i]) }

// hostCall is one function of preview 1: its name, its parameters ('i' is i32,
// 'I' is i64; the result is always an errno), its price, and what it does.
type hostCall struct {
	name   string
	params string
	fuel   uint64
	call   func(p *process, a *args) errno
}

// hostCalls is all of preview 1 but proc_exit, which has no result.
var hostCalls = []hostCall{
	{"args_get", "ii", fuelCall, (*process).argsGet},
	{"args_sizes_get", "ii", fuelCall, (*process).argsSizesGet},
	{"environ_get", "ii", fuelCall, (*process).environGet},
	{"environ_sizes_get", "ii", fuelCall, (*process).environSizesGet},
	{"clock_res_get", "ii", fuelCall, (*process).clockResGet},
	{"clock_time_get", "iIi", fuelCall, (*process).clockTimeGet},
	{"random_get", "ii", fuelCall, (*process).randomGet},
	{"poll_oneoff", "iiii", fuelCall, (*process).pollOneoff},
	{"sched_yield", "", fuelCall, (*process).schedYield},
	{"proc_raise", "i", fuelCall, (*process).procRaise},

	{"fd_advise", "iIIi", fuelCall, (*process).fdAdvise},
	{"fd_allocate", "iII", fuelCall, (*process).fdAllocate},
	{"fd_close", "i", fuelCall, (*process).fdClose},
	{"fd_datasync", "i", fuelCall, (*process).fdSync},
	{"fd_fdstat_get", "ii", fuelCall, (*process).fdFdstatGet},
	{"fd_fdstat_set_flags", "ii", fuelCall, (*process).fdFdstatSetFlags},
	{"fd_fdstat_set_rights", "iII", fuelCall, (*process).fdFdstatSetRights},
	{"fd_filestat_get", "ii", fuelCall, (*process).fdFilestatGet},
	{"fd_filestat_set_size", "iI", fuelCall, (*process).fdFilestatSetSize},
	{"fd_filestat_set_times", "iIIi", fuelCall, (*process).fdFilestatSetTimes},
	{"fd_pread", "iiiIi", fuelCall, (*process).fdPread},
	{"fd_prestat_dir_name", "iii", fuelCall, (*process).fdPrestatDirName},
	{"fd_prestat_get", "ii", fuelCall, (*process).fdPrestatGet},
	{"fd_pwrite", "iiiIi", fuelCall, (*process).fdPwrite},
	{"fd_read", "iiii", fuelCall, (*process).fdRead},
	{"fd_readdir", "iiiIi", fuelCall, (*process).fdReaddir},
	{"fd_renumber", "ii", fuelCall, (*process).fdRenumber},
	{"fd_seek", "iIii", fuelCall, (*process).fdSeek},
	{"fd_sync", "i", fuelCall, (*process).fdSync},
	{"fd_tell", "ii", fuelCall, (*process).fdTell},
	{"fd_write", "iiii", fuelCall, (*process).fdWrite},

	{"path_create_directory", "iii", fuelPath, (*process).pathCreateDirectory},
	{"path_filestat_get", "iiiii", fuelPath, (*process).pathFilestatGet},
	{"path_filestat_set_times", "iiiiIIi", fuelPath, (*process).pathFilestatSetTimes},
	{"path_link", "iiiiiii", fuelPath, (*process).pathLink},
	{"path_open", "iiiiiIIii", fuelPath, (*process).pathOpen},
	{"path_readlink", "iiiiii", fuelPath, (*process).pathReadlink},
	{"path_remove_directory", "iii", fuelPath, (*process).pathRemoveDirectory},
	{"path_rename", "iiiiii", fuelPath, (*process).pathRename},
	{"path_symlink", "iiiii", fuelPath, (*process).pathSymlink},
	{"path_unlink_file", "iii", fuelPath, (*process).pathUnlinkFile},

	{"sock_accept", "iii", fuelCall, (*process).sock},
	{"sock_recv", "iiiiii", fuelCall, (*process).sock},
	{"sock_send", "iiiii", fuelCall, (*process).sock},
	{"sock_shutdown", "ii", fuelCall, (*process).sock},
}

const procExit = "proc_exit"

var hostTypes = hostTypesByName()

func hostTypesByName() map[string]string {
	types := map[string]string{procExit: "i"}
	for _, h := range hostCalls {
		types[h.name] = h.params
	}
	return types
}

func isHostCall(name string) bool {
	_, ok := hostTypes[name]
	return ok
}

func valTypes(params string) []*wasmtime.ValType {
	var types []*wasmtime.ValType
	for _, p := range params {
		types = append(types, wasmtime.NewValType(valKind(p)))
	}
	return types
}

func valKind(param rune) wasmtime.ValKind {
	if param == 'I' {
		return wasmtime.KindI64
	}
	return wasmtime.KindI32
}

// checkImport refuses a preview 1 function under another type than its own.
func checkImport(name string, ty *wasmtime.FuncType) error {
	want, got := hostTypes[name], ty.Params()
	same := len(got) == len(want)
	for i, param := range want {
		same = same && got[i].Kind() == valKind(param)
	}
	results := ty.Results()
	if name == procExit {
		same = same && len(results) == 0
	} else {
		same = same && len(results) == 1 && results[0].Kind() == wasmtime.KindI32
	}
	if !same {
		return refusef("import %q has another type than in WASI preview 1", name)
	}
	return nil
}

// link defines all of preview 1, for whichever process the machine runs.
func (m *machine) link() error {
	for _, h := range hostCalls {
		ty := wasmtime.NewFuncType(valTypes(h.params), valTypes("i"))
		err := m.linker.FuncNew(wasiModule, h.name, ty, func(c *wasmtime.Caller, vals []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
			var a args
			for i, v := range vals {
				if v.Kind() == wasmtime.KindI64 {
					a[i] = uint64(v.I64())
				} else {
					a[i] = uint64(uint32(v.I32()))
				}
			}
			e, trap := m.running.dispatch(c, h, &a)
			if trap != nil {
				return nil, trap
			}
			return []wasmtime.Val{wasmtime.ValI32(int32(e))}, nil
		})
		if err != nil {
			return fmt.Errorf("executor: defining %s: %w", h.name, err)
		}
	}
	exit := func(_ *wasmtime.Caller, vals []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
		status := StatusOK
		code := uint32(vals[0].I32())
		if code != 0 {
			status = StatusExited
		}
		m.running.end(status, "")
		m.running.exitCode = code
		return nil, wasmtime.NewTrap(procExit)
	}
	if err := m.linker.FuncNew(wasiModule, procExit, wasmtime.NewFuncType(valTypes("i"), nil), exit); err != nil {
		return fmt.Errorf("executor: defining %s: %w", procExit, err)
	}
	return nil
}

// dispatch runs one host call, charges it, and ends the program when a limit
// was reached or the host failed.
func (p *process) dispatch(c *wasmtime.Caller, h hostCall, a *args) (errno, *wasmtime.Trap) {
	p.caller, p.cost = c, h.fuel
	e := h.call(p, a)
	p.caller = nil
	p.charge(p.cost)
	for _, m := range p.mounts {
		if m.fault != nil {
			p.fault = m.fault
		} else if m.exceeded != "" {
			p.end(StatusOutputLimit, "limit "+m.exceeded+" reached")
		}
	}
	if p.fault != nil || p.status != 0 {
		return 0, wasmtime.NewTrap("ended by the host")
	}
	return e, nil
}

// charge takes fuel from the program, and ends it if there is not enough.
func (p *process) charge(cost uint64) {
	left, err := p.store.GetFuel()
	if err == nil {
		if left < cost {
			p.end(StatusOutOfFuel, "")
		}
		err = p.store.SetFuel(left - min(left, cost))
	}
	p.noteFault(err)
}

// fuelUsed is the fuel used so far, the running host call not included.
func (p *process) fuelUsed() uint64 {
	left, err := p.store.GetFuel()
	p.noteFault(err)
	return p.limits.Fuel - min(left, p.limits.Fuel)
}

// bytes is a window of the program's memory, valid until the program runs on.
func (p *process) bytes(ptr, length uint32) ([]byte, errno) {
	data := p.memory.UnsafeData(p.caller)
	if uint64(ptr)+uint64(length) > uint64(len(data)) {
		return nil, errnoFault
	}
	return data[ptr : uint64(ptr)+uint64(length)], errnoSuccess
}

// text copies a string out of the program's memory. One that is too long to
// be a path is refused before it is copied.
func (p *process) text(ptr, length uint32) (string, errno) {
	if length > maxPathBytes {
		return "", errnoNametoo
	}
	b, e := p.bytes(ptr, length)
	return string(b), e
}

func (p *process) put32(ptr, value uint32) errno {
	b, e := p.bytes(ptr, 4)
	if e == errnoSuccess {
		binary.LittleEndian.PutUint32(b, value)
	}
	return e
}

func (p *process) put64(ptr uint32, value uint64) errno {
	b, e := p.bytes(ptr, 8)
	if e == errnoSuccess {
		binary.LittleEndian.PutUint64(b, value)
	}
	return e
}
