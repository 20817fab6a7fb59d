package explorer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var zeroTime = time.UnixMilli(0)

// branch is a part of a decoded document: a leaf with a value, or a list of
// parts.
type branch struct {
	Name  string
	Parts []branch
	Leaf  bool
	Text  string
	Link  *link
	Money *money
	Note  string // what a number means
}

// treeOf returns the JSON of v as a tree, in the order of its fields. Every
// field is there; what is known is linked.
func treeOf(name string, v any) (branch, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return branch{}, fmt.Errorf("explorer: decoding for display: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return readBranch(decoder, name)
}

func readBranch(decoder *json.Decoder, name string) (branch, error) {
	token, err := decoder.Token()
	if err != nil {
		return branch{}, err
	}
	b := branch{Name: name}
	delim, nested := token.(json.Delim)
	if !nested {
		leaf(&b, token)
		return b, nil
	}
	for i := 0; decoder.More(); i++ {
		part := strconv.Itoa(i + 1)
		if delim == '{' {
			key, err := decoder.Token()
			if err != nil {
				return branch{}, err
			}
			part = key.(string) // JSON's grammar
		}
		child, err := readBranch(decoder, part)
		if err != nil {
			return branch{}, err
		}
		b.Parts = append(b.Parts, child)
	}
	if _, err := decoder.Token(); err != nil {
		return branch{}, err
	}
	if len(b.Parts) == 0 {
		b.Leaf, b.Text = true, "none"
	}
	return b, nil
}

// leaf fills in a value by its kind and its field's name.
func leaf(b *branch, token json.Token) {
	b.Leaf = true
	switch value := token.(type) {
	case nil:
		b.Text = "none"
	case bool:
		b.Text = map[bool]string{true: "yes", false: "no"}[value]
	case json.Number:
		leafNumber(b, value.String())
	case string:
		leafString(b, value)
	}
}

func leafNumber(b *branch, text string) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		b.Text = text
		return
	}
	switch {
	case b.Name == "max_fee_nhyper" || b.Name == "tip_nhyper":
		b.Text, b.Note = grouped(n), "nHYPER per gas"
	case strings.HasSuffix(b.Name, "_nhyper"):
		m := moneyOf(chain.Nano(n))
		b.Money = &m
	case strings.HasSuffix(b.Name, "_ms") && b.Name != "duration_ms":
		b.Text = momentOf(chain.TimeMs(n), zeroTime).Absolute
	case b.Name == "price_atto":
		b.Text, b.Note = grouped(n), "10⁻¹⁸ HYPER per unit·second"
	default:
		b.Text = grouped(n)
	}
}

// longLeaf is the length of text above which a value is shown by its begin. It
// is ASCII: base64 or hexadecimal.
const longLeaf = 160

func leafString(b *branch, text string) {
	switch {
	case text == "":
		b.Text = "empty"
		return
	case b.Name == "memo" || b.Name == "region" || b.Name == "label":
		b.Text = quoted(text)
		return
	}
	if strings.HasPrefix(text, chain.AddressPrefix+"1") {
		if address, err := chain.ParseAddress(text); err == nil {
			l := linkAddress(address)
			b.Link = &l
			return
		}
	}
	if digest, err := crypto.ParseDigest(text); err == nil {
		l := plainDigest(digest, b.Name)
		switch b.Name {
		case "order":
			l = linkJob(digest)
		case "node_id", "cluster":
			l = linkNode(crypto.PublicKey(digest))
		case "tx_id":
			l = linkTx(digest)
		}
		b.Link = &l
		return
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && n > 1<<53 && len(text) <= 20 { // then a number is a string
		leafNumber(b, text)
		return
	}
	if isOrdinal(b.Name) {
		b.Text = quoted(text)
		return
	}
	b.Text = text
	if len(text) > longLeaf {
		b.Text, b.Link = "", &link{Short: fmt.Sprintf("%s… (%s characters)", text[:16], grouped(len(text))), Full: text, What: b.Name}
	}
}

// isOrdinal reports whether a part is an element of a list, such as an
// endpoint.
func isOrdinal(name string) bool {
	_, err := strconv.Atoi(name)
	return err == nil
}
