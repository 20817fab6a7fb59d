package main

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst reorders a command line so that flags may stand after arguments,
// which urfave/cli does not allow: the command's path, then its flags, then "--"
// and the arguments. What follows the first "--" is arguments as it is. A command
// that lacks flags is a usageError that names them.
func flagsFirst(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
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
		return args, nil
	}
	flags, positional := splitFlags(command, args[path:])
	if missing := missingFlags(command, flags); len(missing) > 0 {
		return nil, &usageError{command: strings.Join(args[1:path], " ") + " ", err: errors.New("missing " + strings.Join(missing, ", "))}
	}
	out := append(slices.Clone(args[:path]), flags...)
	if len(positional) > 0 {
		out = append(append(out, "--"), positional...)
	}
	return out, nil
}

// missingFlags returns the flags that a command must have and that neither the
// command line nor the environment gives it, with their placeholders. It is none
// if help is asked for, or a flag is given that the command does not know: that is
// told first.
func missingFlags(command *cli.Command, flags []string) (missing []string) {
	given := map[string]bool{}
	for i := 0; i < len(flags); i++ {
		name, _, inline := strings.Cut(strings.TrimLeft(flags[i], "-"), "=")
		if !slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) {
			return nil
		}
		given[name] = true
		if !inline && takesValue(command, name) {
			i++
		}
	}
	for _, f := range command.Flags {
		required, ok := f.(cli.RequiredFlag)
		if !ok || !required.IsRequired() || slices.ContainsFunc(f.Names(), func(name string) bool { return given[name] }) {
			continue
		}
		documented, ok := f.(cli.DocGenerationFlag)
		if ok && slices.ContainsFunc(documented.GetEnvVars(), func(name string) bool { _, set := os.LookupEnv(name); return set }) {
			continue
		}
		missing = append(missing, "--"+f.Names()[0]+placeholder(f))
	}
	return missing
}

// placeholder returns what a flag's help calls its value, after a space.
func placeholder(f cli.Flag) string {
	documented, ok := f.(cli.DocGenerationFlag)
	if !ok || !documented.TakesValue() {
		return ""
	}
	if parts := strings.SplitN(documented.GetUsage(), "`", 3); len(parts) == 3 {
		return " " + parts[1]
	}
	return " VALUE"
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
