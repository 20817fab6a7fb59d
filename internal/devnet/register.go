package devnet

import "context"

func (n *Network) register(context.Context) error { return nil }
