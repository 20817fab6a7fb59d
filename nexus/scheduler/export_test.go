package scheduler

import "reflect"

// Snapshot is how a state is encoded.
type Snapshot = snapshot

// CommandTypes returns the type of each kind of command.
func CommandTypes() map[uint8]reflect.Type {
	types := map[uint8]reflect.Type{}
	for kind, decode := range commandDecoders {
		_, err := decode(nil, func(_ []byte, v any) error {
			types[kind] = reflect.TypeOf(v).Elem()
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	return types
}

// Samples returns how often the state has drawn nodes so far.
func (s *State) Samples() uint64 { return s.samples }
