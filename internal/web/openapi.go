package web

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// NewAPI returns the operations of an OpenAPI 3.1 document that knows the shapes
// of package api.
func NewAPI(adapter huma.Adapter, title, description string) huma.API {
	return huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: title, Version: "1", Description: strings.TrimSpace(description)},
			Components: &huma.Components{Schemas: newRegistry()},
		},
		Formats:                      map[string]huma.Format{api.ContentJSON: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                api.ContentJSON,
		RejectUnknownQueryParameters: true,
	}, adapter)
}

// Publish serves the document of an API whose operations are all there, and a
// problem for every path that is none of the mux's.
func Publish(mux *http.ServeMux, operations huma.API, log *slog.Logger) error {
	document, err := json.Marshal(operations.OpenAPI())
	if err != nil {
		return fmt.Errorf("the OpenAPI document: %w", err)
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		Write(w, r, log, document)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, r, log, NotFound("no such path and method: see /openapi.json"))
	})
	return nil
}

// SchemaOf returns a reference to the schema of T.
func SchemaOf[T any](operations huma.API) *huma.Schema {
	return operations.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// newRegistry returns a schema registry that knows the shapes of package api.
func newRegistry() huma.Registry {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for _, shape := range api.Shapes() {
		switch {
		case shape.Integer:
			registry.RegisterTypeAlias(shape.Type, reflect.TypeFor[integerShape]())
		case shape.List:
			registry.RegisterTypeAlias(shape.Type, reflect.TypeFor[eventListShape]())
		case shape.Type == reflect.TypeFor[api.Message]():
			registry.RegisterTypeAlias(shape.Type, reflect.TypeFor[messageShape]())
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

type messageShape struct{}

// Schema implements huma.SchemaProvider.
func (messageShape) Schema(r huma.Registry) *huma.Schema {
	return sumSchema(r, reflect.TypeFor[api.Message]())
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

type eventListShape struct{}

// Schema implements huma.SchemaProvider.
func (eventListShape) Schema(r huma.Registry) *huma.Schema {
	for _, shape := range api.Shapes() {
		if shape.List {
			return &huma.Schema{Type: huma.TypeArray, Items: sumOf(r, shape.Cases)}
		}
	}
	panic("web: package api lists no events")
}

func sumSchema(r huma.Registry, t reflect.Type) *huma.Schema {
	for _, shape := range api.Shapes() {
		if shape.Type == t {
			return sumOf(r, shape.Cases)
		}
	}
	panic("web: package api lists no " + t.String())
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
