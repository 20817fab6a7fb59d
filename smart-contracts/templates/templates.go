// Package templates is contracts that are ready to use.
//
// Each is a directory: a project of sdk/assembly, and beside it NAME.wasm, the
// module that is built of it. A test says if the two do not fit.
package templates

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
)

//go:embed */*.ts */*.json */*.wasm
var files embed.FS

// Names are the templates, in the order of their names.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("templates: " + err.Error())
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Sources is a template's project.
func Sources(name string) (fs.FS, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("there is no template %q: want one of %v", name, Names())
	}
	return fs.Sub(files, name)
}

// Module is a template's code.
func Module(name string) ([]byte, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("there is no template %q: want one of %v", name, Names())
	}
	return files.ReadFile(name + "/" + name + ".wasm")
}
