package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/urfave/cli/v2"
)

// commandsPage is made of the commands' own help.
const commandsPage = "../../docs/COMMANDS.md"

const commandsHead = `# Commands

Every command of ` + "`hypermesh`" + `, with the flags that it cannot do without, in the words of its own help. ` + "`--help`" + ` after a command lists all of its
flags, and says more; what the commands are for is on the pages of this folder. ` + "`--json`" + `, where a command has it, prints one JSON value.
Exit codes: 0, it was done; 1, it failed; 2, it was asked wrongly; 130, Ctrl-C came before it was done.

This page is written by ` + "`go test ./cmd/hypermesh -run TestCommandsPage -update`" + `.
`

// TestCommandsPage holds docs/COMMANDS.md to the commands that there are.
func TestCommandsPage(t *testing.T) {
	var out strings.Builder
	out.WriteString(commandsHead)
	for _, group := range newApp(io.Discard, io.Discard).Commands {
		if !group.Hidden {
			writeGroup(&out, group)
		}
	}
	golden.Check(t, commandsPage, out.String())
}

// writeGroup writes the section of a command and those below it.
func writeGroup(out *strings.Builder, group *cli.Command) {
	fmt.Fprintf(out, "\n## %s\n\n%s.\n\n| command | what it does |\n|---|---|\n", group.Name, strings.ToUpper(group.Usage[:1])+group.Usage[1:])
	var examples []string
	eachCommand([]string{programName}, []*cli.Command{group}, func(path []string, command *cli.Command) {
		fmt.Fprintf(out, "| `%s` | %s |\n", synopsis(path, command), strings.ReplaceAll(command.Usage, "|", "\\|"))
		for line := range strings.Lines(command.Description) {
			if example, ok := strings.CutPrefix(strings.TrimSpace(line), "Example: "); ok {
				examples = append(examples, example)
			}
		}
	})
	fmt.Fprintf(out, "\n```\n%s\n```\n", strings.Join(examples, "\n"))
}

// eachCommand calls do for every command that does something itself.
func eachCommand(path []string, list []*cli.Command, do func(path []string, command *cli.Command)) {
	for _, command := range list {
		at := append(slices.Clone(path), command.Name)
		switch {
		case command.Hidden:
		case len(command.Subcommands) > 0:
			eachCommand(at, command.Subcommands, do)
		default:
			do(at, command)
		}
	}
}

var valueName = regexp.MustCompile("`([^`]+)`")

// synopsis is a command with its arguments and the flags that it demands, as a table's cell.
func synopsis(path []string, command *cli.Command) string {
	line := strings.Join(path, " ")
	for _, f := range command.Flags {
		required, ok := f.(cli.RequiredFlag)
		described, has := f.(cli.DocGenerationFlag)
		if !ok || !has || !required.IsRequired() {
			continue
		}
		line += " --" + f.Names()[0]
		if value := valueName.FindStringSubmatch(described.GetUsage()); value != nil {
			line += " " + value[1]
		}
	}
	if command.ArgsUsage != "" {
		line += " " + command.ArgsUsage
	}
	return strings.ReplaceAll(line, "|", "\\|")
}

// inDocs is a command in the code of a page: at a line's beginning, or after a backtick.
var inDocs = regexp.MustCompile("(?m)(?:^ *|`)hypermesh((?: [a-z][a-z0-9-]*)+)")

// TestDocsNameCommands looks for commands on the pages that there are no longer.
func TestDocsNameCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	app, found := newApp(io.Discard, io.Discard), 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range inDocs.FindAllStringSubmatch(string(text), -1) {
			found++
			list := app.Commands
			for _, word := range strings.Fields(match[1]) {
				at := slices.IndexFunc(list, func(c *cli.Command) bool { return c.HasName(word) })
				if at < 0 {
					t.Errorf("%s: %q: there is no %q", page, "hypermesh"+match[1], word)
					break
				}
				if list = list[at].Subcommands; len(list) == 0 {
					break // what follows are its arguments
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("%d commands were found on the pages", found)
	}
}
