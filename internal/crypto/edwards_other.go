//go:build !amd64 || noavx512

package crypto

var hasFused = false

const noFused = "crypto: no fused multiplication on this processor"

func mul8(_, _, _ *field8) { panic(noFused) }

func add8(_, _, _ *field8) { panic(noFused) }

func sub8(_, _, _ *field8) { panic(noFused) }

func square8(_, _ *field8, _ int) { panic(noFused) }

func addPoint8(_, _ *point8, _ *field8, _ *work8) { panic(noFused) }

func doublePoint8(_ *point8, _ int, _ *work8) { panic(noFused) }

func accumulate8(_ *point8, _ *niels, _ *uint32, _ int, _ *work8) { panic(noFused) }
