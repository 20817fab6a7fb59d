package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// Every long-running role has one config struct with `toml` tags, defaults and a
// Check method. Its file is config.toml in the role's home; each field is also a
// flag (listen_addr → --listen-addr) and an environment variable
// (HYPERMESH_NODE_LISTEN_ADDR). Flags go before the environment, the environment
// before the file, the file before the defaults.

const configFile = "config.toml"

// checker is a config that knows its rules.
type checker interface{ Check() error }

// homeFlag names the directory of a role's config, keys and data.
func homeFlag() cli.Flag {
	return &cli.StringFlag{Name: "home", Usage: "`DIR` of the config file, keys and data", EnvVars: []string{"HYPERMESH_HOME"}, Required: true}
}

// configFlags derives a role's flags from its config's fields: from all, or only
// those whose flags are named.
func configFlags(role string, defaults any, only ...string) []cli.Flag {
	var flags []cli.Flag
	for field, value := range configFields(reflect.ValueOf(defaults)) {
		name, env := flagName(field), []string{envName(role, field)}
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		usage := field.Tag.Get("usage")
		switch v := value.Interface().(type) {
		case string:
			flags = append(flags, &cli.StringFlag{Name: name, EnvVars: env, Usage: usage, DefaultText: v})
		case []string:
			flag := &cli.StringSliceFlag{Name: name, EnvVars: env, Usage: usage}
			if one, plural := strings.CutSuffix(name, "ies"); plural {
				flag.Aliases = []string{one + "y"}
			} else if one, plural := strings.CutSuffix(name, "s"); plural && !strings.HasSuffix(name, "us") { // one nexus
				flag.Aliases = []string{one}
			}
			flags = append(flags, flag)
		case bool:
			flags = append(flags, &cli.BoolFlag{Name: name, EnvVars: env, Usage: usage})
		case time.Duration:
			flags = append(flags, &cli.DurationFlag{Name: name, EnvVars: env, Usage: usage, DefaultText: v.String()})
		case int:
			flags = append(flags, &cli.IntFlag{Name: name, EnvVars: env, Usage: usage, DefaultText: fmt.Sprint(v)})
		case uint64:
			flags = append(flags, &cli.Uint64Flag{Name: name, EnvVars: env, Usage: usage, DefaultText: fmt.Sprint(v)})
		default:
			panic(fmt.Sprintf("config field %s has type %T, which has no flag", field.Name, v))
		}
	}
	return flags
}

// readConfig fills config, which holds the defaults, from the home's file, the
// environment and the flags, and checks it.
func readConfig(c *cli.Context, config checker) error {
	if err := decodeConfig(c, config); err != nil {
		return err
	}
	return config.Check()
}

// decodeConfig is readConfig without the check.
func decodeConfig(c *cli.Context, config any) error {
	if err := decodeConfigFile(filepath.Join(c.String("home"), configFile), config); err != nil {
		return err
	}
	applyConfig(c, config)
	return nil
}

// decodeConfigFile reads a config file, if it is there.
func decodeConfigFile(path string, config any) error {
	meta, err := toml.DecodeFile(path, config)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("reading %s: %w", path, err)
	case len(meta.Undecoded()) > 0:
		return fmt.Errorf("%s: unknown key %q", path, meta.Undecoded()[0].String())
	}
	return nil
}

// applyConfig sets what the environment and the flags say of the config that the
// pointer is to.
func applyConfig(c *cli.Context, config any) {
	for field, value := range configFields(reflect.ValueOf(config).Elem()) {
		name := flagName(field)
		if !c.IsSet(name) {
			continue
		}
		switch value.Interface().(type) {
		case string:
			value.SetString(c.String(name))
		case []string:
			value.Set(reflect.ValueOf(c.StringSlice(name)))
		case bool:
			value.SetBool(c.Bool(name))
		case time.Duration:
			value.SetInt(int64(c.Duration(name)))
		case int:
			value.SetInt(int64(c.Int(name)))
		case uint64:
			value.SetUint(c.Uint64(name))
		}
	}
}

// configFields yields the fields that a file or a flag may set.
func configFields(config reflect.Value) func(func(reflect.StructField, reflect.Value) bool) {
	return func(yield func(reflect.StructField, reflect.Value) bool) {
		for i := range config.NumField() {
			field := config.Type().Field(i)
			if tag := field.Tag.Get("toml"); tag == "" || tag == "-" {
				continue
			}
			if !yield(field, config.Field(i)) {
				return
			}
		}
	}
}

func flagName(field reflect.StructField) string {
	return strings.ReplaceAll(field.Tag.Get("toml"), "_", "-")
}

func envName(role string, field reflect.StructField) string {
	return "HYPERMESH_" + strings.ToUpper(role+"_"+field.Tag.Get("toml"))
}
