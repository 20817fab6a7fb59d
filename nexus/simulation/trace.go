package simulation

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
)

// Bounds of a trace.
const (
	maxMachines = 100_000
	maxTasks    = 10_000_000
	maxDevices  = 16
	whole       = 1_000 // thousandths of a GPU
)

// Machine is one of a trace: what it has.
type Machine struct {
	Name       string
	Millicores uint64
	MemoryMiB  uint64
	Devices    int
	Kind       string // of its GPUs
}

// Task is one of a trace: what it asks for, when it comes and for how long it
// works, in seconds.
type Task struct {
	Name       string
	Millicores uint64
	MemoryMiB  uint64
	Devices    uint64
	ShareMilli uint64 // of each device
	Kind       string // of GPU; empty: any
	Arrives    uint64
	Works      uint64
}

// Trace is a recorded load.
type Trace struct {
	Machines []Machine
	Tasks    []Task
}

// ReadTrace reads machines and tasks as Alibaba's cluster-trace-gpu-v2023 has
// them: openb_nodes.csv with the columns sn, cpu_milli, memory_mib, gpu, model,
// and openb_pods.csv with name, cpu_milli, memory_mib, num_gpu, gpu_milli,
// gpu_spec, creation_time, deletion_time. Other columns are ignored. The error
// names the line.
func ReadTrace(machines, tasks io.Reader) (*Trace, error) {
	t := &Trace{}
	err := rows(machines, maxMachines, []string{"sn", "cpu_milli", "memory_mib", "gpu", "model"}, func(c []string) error {
		n, err := numbers(c[1:4])
		if err != nil {
			return err
		}
		if n[2] > maxDevices {
			return fmt.Errorf("%d gpus, limit %d", n[2], maxDevices)
		}
		t.Machines = append(t.Machines, Machine{Name: c[0], Millicores: n[0], MemoryMiB: n[1], Devices: int(n[2]), Kind: c[4]})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("simulation: machines: %w", err)
	}
	columns := []string{"name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time", "deletion_time", "gpu_spec"}
	err = rows(tasks, maxTasks, columns, func(c []string) error {
		n, err := numbers(c[1:7])
		if err != nil {
			return err
		}
		task := Task{
			Name: c[0], Millicores: max(1, n[0]), MemoryMiB: max(1, n[1]), Devices: n[2], ShareMilli: n[3], Kind: c[7],
			Arrives: n[4], Works: max(1, n[5]-min(n[4], n[5])),
		}
		switch {
		case n[2] > maxDevices:
			return fmt.Errorf("%d gpus, limit %d", n[2], maxDevices)
		case n[2] == 0:
			task.ShareMilli = 0
		case n[2] > 1 || n[3] == 0 || n[3] > whole:
			task.ShareMilli = whole
		}
		t.Tasks = append(t.Tasks, task)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("simulation: tasks: %w", err)
	}
	if len(t.Machines) == 0 || len(t.Tasks) == 0 {
		return nil, fmt.Errorf("simulation: a trace of %d machines and %d tasks", len(t.Machines), len(t.Tasks))
	}
	return t, nil
}

// rows calls f with the named columns of every line but the first, which names
// them.
func rows(from io.Reader, limit int, columns []string, f func([]string) error) error {
	r := csv.NewReader(from)
	head, err := r.Read()
	if err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	at := make([]int, len(columns))
	for i, column := range columns {
		at[i] = -1
		for k, name := range head {
			if name == column {
				at[i] = k
			}
		}
		if at[i] < 0 {
			return fmt.Errorf("line 1: no column %q", column)
		}
	}
	cells := make([]string, len(columns))
	for line := 2; ; line++ {
		row, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if line-1 > limit {
			return fmt.Errorf("line %d: more than %d lines", line, limit)
		}
		for i, k := range at {
			cells[i] = row[k]
		}
		if err := f(cells); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

const maxNumber = 1 << 40

func numbers(cells []string) ([]uint64, error) {
	out := make([]uint64, len(cells))
	for i, cell := range cells {
		n, err := strconv.ParseUint(cell, 10, 64)
		if err != nil || n > maxNumber {
			return nil, fmt.Errorf("%.40q is no number up to %d", cell, uint64(maxNumber))
		}
		out[i] = n
	}
	return out, nil
}
