package server

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// newRegistry returns a schema registry that knows the shapes of package api
// that a Nexus server's schemas use.
func newRegistry() huma.Registry {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for _, shape := range api.Shapes() {
		switch {
		case shape.Integer:
			registry.RegisterTypeAlias(shape.Type, reflect.TypeFor[integerShape]())
		case shape.Type == reflect.TypeFor[api.Policy]():
			registry.RegisterTypeAlias(shape.Type, reflect.TypeFor[policyShape]())
		case shape.Type == reflect.TypeFor[api.Work]():
			registry.RegisterTypeAlias(shape.Type, reflect.TypeFor[workShape]())
		}
	}
	return registry
}

// integerShape stands for integers that are strings above 2⁵³.
type integerShape struct{}

// Schema implements huma.SchemaProvider.
func (integerShape) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Description: "Unsigned 64-bit integer: a number up to 2^53, a decimal string above; either form is read.",
		OneOf: []*huma.Schema{
			{Type: huma.TypeInteger, Minimum: new(float64)},
			{Type: huma.TypeString, Pattern: "^[0-9]{1,20}$"},
		},
	}
}

type policyShape struct{}

// Schema implements huma.SchemaProvider.
func (policyShape) Schema(r huma.Registry) *huma.Schema {
	return sumSchema(r, reflect.TypeFor[api.Policy]())
}

type workShape struct{}

// Schema implements huma.SchemaProvider.
func (workShape) Schema(r huma.Registry) *huma.Schema {
	return sumSchema(r, reflect.TypeFor[api.Work]())
}

func sumSchema(r huma.Registry, t reflect.Type) *huma.Schema {
	for _, shape := range api.Shapes() {
		if shape.Type == t {
			return sumOf(r, shape.Cases)
		}
	}
	panic("server: package api lists no " + t.String())
}

func sumOf(r huma.Registry, cases []api.Case) *huma.Schema {
	out := &huma.Schema{}
	for _, c := range cases {
		out.OneOf = append(out.OneOf, &huma.Schema{
			Type: huma.TypeObject,
			Properties: map[string]*huma.Schema{
				"type": {Type: huma.TypeString, Enum: []any{c.Name}},
				"data": r.Schema(c.Type, true, c.Name),
			},
			Required: []string{"type", "data"},
		})
	}
	return out
}

// schemaOf returns a reference to the schema of T.
func schemaOf[T any](hapi huma.API) *huma.Schema {
	return hapi.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

func newHumaAPI(adapter huma.Adapter) huma.API {
	return huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "HyperMesh Nexus server", Version: "1", Description: strings.TrimSpace(description)},
			Components: &huma.Components{Schemas: newRegistry()},
		},
		Formats:                      map[string]huma.Format{api.ContentJSON: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                api.ContentJSON,
		RejectUnknownQueryParameters: true,
	}, adapter)
}

const description = `
The public API of a server of a HyperMesh Nexus cluster. Every server of a cluster answers the same; what only the leader can do is sent on to it.
Reads may lag a little behind the leader; leader=true asks the leader itself.
Amounts are nHYPER (10^-9 HYPER) and times milliseconds since the Unix epoch. Integers above 2^53 are decimal strings.
Digests, keys and signatures are lower-case hexadecimal, addresses bech32m, other bytes base64. Errors are RFC 9457 problems.
`
