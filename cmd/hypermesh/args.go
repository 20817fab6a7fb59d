package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst reorders a command line so that flags may stand after arguments,
// which urfave/cli does not allow: the command's path, then its flags, then "--"
// and the arguments. What follows the first "--" is arguments as it is.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	args = runsRelay(args)
	path, list := 1, app.Commands
	var command *cli.Command
	for path < len(args) {
		i := slices.IndexFunc(list, func(c *cli.Command) bool { return c.HasName(args[path]) })
		if i < 0 {
			break
		}
		command, list = list[i], list[i].Subcommands
		path++
	}
	if command == nil || len(command.Subcommands) > 0 {
		return args
	}
	flags, positional := splitFlags(command, args[path:])
	out := append(slices.Clone(args[:path]), flags...)
	if len(positional) > 0 {
		out = append(append(out, "--"), positional...)
	}
	return out
}

// runsRelay makes "relay --private …" what it is short for: "relay run --private …".
func runsRelay(args []string) []string {
	if len(args) > 2 && args[1] == "relay" && slices.Contains(args[2:], "--private") && strings.HasPrefix(args[2], "-") {
		return slices.Insert(slices.Clone(args), 2, "run")
	}
	return args
}

// splitFlags takes a command's own flags and their values out of its arguments.
func splitFlags(command *cli.Command, args []string) (flags, positional []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return flags, append(positional, args[i+1:]...)
		case len(arg) < 2 || arg[0] != '-':
			positional = append(positional, arg)
			continue
		}
		flags = append(flags, arg)
		if !strings.Contains(arg, "=") && takesValue(command, strings.TrimLeft(arg, "-")) && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	return flags, positional
}

// takesValue reports whether the flag of that name is one with a value.
func takesValue(command *cli.Command, name string) bool {
	for _, f := range command.Flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		documented, ok := f.(cli.DocGenerationFlag)
		return ok && documented.TakesValue()
	}
	return false
}
