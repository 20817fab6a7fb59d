package cosmwasm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

const burn = `{"bank":{"burn":{"amount":[]}}}`

func coinOf(amount string) string {
	return `{"bank":{"burn":{"amount":[{"denom":"a","amount":` + amount + `}]}}}`
}

func voteOf(proposal, weight string) string {
	return `{"gov":{"vote_weighted":{"proposal_id":` + proposal + `,"options":[{"option":"yes","weight":"` + weight + `"}]}}}`
}

func executeOf(msg string) string {
	return `{"wasm":{"execute":{"contract_addr":"a","msg":` + msg + `,"funds":[]}}}`
}

func responseOf(messages, attributes, events string) string {
	return `{"ok":{"messages":[` + messages + `],"attributes":[` + attributes + `],"events":[` + events + `],"data":null}}`
}

const (
	atAmount = "bank.burn.amount[0].amount"
	atWeight = "gov.vote_weighted.options[0].weight"
	atMsg    = "wasm.execute.msg"
)

// many is a list's text of a count of elements.
func many(count int, element string) string {
	return strings.TrimSuffix(strings.Repeat(element+",", count), ",")
}

// subOf is a response with a submessage that has other fields beside.
func subOf(fields string) string { return responseOf(`{"id":1,"msg":`+burn+fields+`}`, "", "") }

func manyFields(count int) string {
	var fields []string
	for i := range count {
		fields = append(fields, fmt.Sprintf(`"%d":0`, i))
	}
	return strings.Join(fields, ",")
}

// refusedTexts are texts, the rule that they break, if any, and where.
var refusedTexts = []struct {
	kind, text string
	rule       cosmwasm.Rule
	path       string
}{
	{"message", ``, cosmwasm.RuleSyntax, ""},
	{"message", burn + `x`, cosmwasm.RuleSyntax, ""},
	{"message", burn + "\x00", cosmwasm.RuleSyntax, ""},
	{"message", "\xef\xbb\xbf" + burn, cosmwasm.RuleSyntax, ""},
	{"message", `{"bank":{"burn":{"amount":[,]}}}`, cosmwasm.RuleSyntax, "bank.burn.amount[0]"},
	{"message", `{"bank":{"burn":{"amount":[],}}}`, cosmwasm.RuleSyntax, "bank.burn"},
	{"message", `{"bank":{"burn":{"amount":[{"denom":"a","amount":"1"},]}}}`, cosmwasm.RuleSyntax, "bank.burn.amount[1]"},
	{"message", `{'bank':{}}`, cosmwasm.RuleSyntax, ""},
	{"message", `null`, cosmwasm.RuleType, ""},
	{"message", `"bank"`, cosmwasm.RuleType, ""},
	{"message", `{}`, cosmwasm.RuleVariant, ""},
	{"message", `{"Bank":{"burn":{"amount":[]}}}`, cosmwasm.RuleVariant, ""},
	{"message", `{"bank":{"mint":{"amount":[]}}}`, cosmwasm.RuleVariant, "bank"},
	{"message", `{"bank":{"burn":{"amount":[]},"send":{}}}`, cosmwasm.RuleVariant, "bank"},
	{"message", `{"bank":{"burn":{"amount":[]}},"custom":{}}`, cosmwasm.RuleVariant, ""},
	{"message", `{"bank":{"burn":{"amount":[]}},"bank":{"burn":{"amount":[]}}}`, cosmwasm.RuleDuplicate, ""},
	{"message", `{"any":{"type_url":"a","value":""}}`, cosmwasm.RuleUnsupported, "any"},
	{"message", `{"stargate":{}}`, cosmwasm.RuleUnsupported, "stargate"},
	{"message", `{"ibc":{"close_channel":{}}}`, cosmwasm.RuleUnsupported, "ibc"},
	{"message", `{"bank":{"burn":{"Amount":[]}}}`, cosmwasm.RuleMissing, "bank.burn"},
	{"message", `{"bank":{"burn":{}}}`, cosmwasm.RuleMissing, "bank.burn"},
	{"message", `{"bank":{"burn":{"amount":null}}}`, cosmwasm.RuleType, "bank.burn.amount"},
	{"message", `{"bank":{"burn":{"amount":[],"amount":[]}}}`, cosmwasm.RuleDuplicate, "bank.burn"},
	{"message", `{"bank":{"burn":{"amount":[],"x":1,"\u0078":1}}}`, cosmwasm.RuleDuplicate, "bank.burn"},
	{"message", `{"gov":{"vote":{"proposal_id":1,"option":"yes","vote":"yes"}}}`, cosmwasm.RuleDuplicate, "gov.vote"},
	{"message", `{"gov":{"vote":{"proposal_id":1,"option":"Yes"}}}`, cosmwasm.RuleVariant, "gov.vote.option"},
	{"message", `{"custom":{"a":{"b":1,"b":2}}}`, cosmwasm.RuleDuplicate, `custom."a"`},
	{"message", coinOf(`5`), cosmwasm.RuleType, atAmount},
	{"message", coinOf(`""`), cosmwasm.RuleNumber, atAmount},
	{"message", coinOf(`"05"`), cosmwasm.RuleNumber, atAmount},
	{"message", coinOf(`"+5"`), cosmwasm.RuleNumber, atAmount},
	{"message", coinOf(`"-5"`), cosmwasm.RuleNumber, atAmount},
	{"message", coinOf(`"5.0"`), cosmwasm.RuleNumber, atAmount},
	{"message", coinOf(`" 5"`), cosmwasm.RuleNumber, atAmount},
	{"message", coinOf(`"340282366920938463463374607431768211456"`), cosmwasm.RuleRange, atAmount},
	{"message", coinOf(`"` + strings.Repeat("9", 65) + `"`), cosmwasm.RuleSize, atAmount},
	{"message", voteOf(`"1"`, "1"), cosmwasm.RuleType, "gov.vote_weighted.proposal_id"},
	{"message", voteOf(`-1`, "1"), cosmwasm.RuleNumber, "gov.vote_weighted.proposal_id"},
	{"message", voteOf(`1.0`, "1"), cosmwasm.RuleNumber, "gov.vote_weighted.proposal_id"},
	{"message", voteOf(`1e2`, "1"), cosmwasm.RuleNumber, "gov.vote_weighted.proposal_id"},
	{"message", voteOf(`01`, "1"), cosmwasm.RuleSyntax, "gov.vote_weighted"},
	{"message", voteOf(`18446744073709551616`, "1"), cosmwasm.RuleRange, "gov.vote_weighted.proposal_id"},
	{"message", voteOf(`1`, "0.50"), cosmwasm.RuleNumber, atWeight},
	{"message", voteOf(`1`, ".5"), cosmwasm.RuleNumber, atWeight},
	{"message", voteOf(`1`, "1."), cosmwasm.RuleNumber, atWeight},
	{"message", voteOf(`1`, "00.5"), cosmwasm.RuleNumber, atWeight},
	{"message", voteOf(`1`, "0.-5"), cosmwasm.RuleNumber, atWeight},
	{"message", voteOf(`1`, "0.0000000000000000001"), cosmwasm.RuleNumber, atWeight},
	{"message", voteOf(`1`, "340282366920938463464"), cosmwasm.RuleRange, atWeight},
	{"message", executeOf(`"e30"`), cosmwasm.RuleBase64, atMsg},
	{"message", executeOf(`"e31="`), cosmwasm.RuleBase64, atMsg},
	{"message", executeOf(`"e3\n0="`), cosmwasm.RuleBase64, atMsg},
	{"message", executeOf(`"_-8="`), cosmwasm.RuleBase64, atMsg},
	{"message", executeOf(`[123,125]`), cosmwasm.RuleType, atMsg},
	{"message", executeOf(`"` + strings.Repeat("A", 4*(512<<10)/3+4) + `"`), cosmwasm.RuleSize, atMsg},
	{"message", `{"wasm":{"instantiate2":{"code_id":1,"label":"","msg":"","funds":[],"salt":"` + strings.Repeat("AAAA", 22) + `"}}}`, cosmwasm.RuleSize, "wasm.instantiate2.salt"},
	{"message", `{"wasm":{"clear_admin":{"contract_addr":"\ud800"}}}`, cosmwasm.RuleUTF8, "wasm.clear_admin.contract_addr"},
	{"message", `{"wasm":{"clear_admin":{"contract_addr":"\udc00\ud800"}}}`, cosmwasm.RuleUTF8, "wasm.clear_admin.contract_addr"},
	{"message", "{\"wasm\":{\"clear_admin\":{\"contract_addr\":\"\xff\"}}}", cosmwasm.RuleUTF8, "wasm.clear_admin.contract_addr"},
	{"message", "{\"wasm\":{\"clear_admin\":{\"contract_addr\":\"\t\"}}}", cosmwasm.RuleSyntax, "wasm.clear_admin.contract_addr"},
	{"message", `{"wasm":{"clear_admin":{"contract_addr":"\x41"}}}`, cosmwasm.RuleSyntax, "wasm.clear_admin.contract_addr"},
	{"message", `{"wasm":{"clear_admin":{"contract_addr":"\u00g1"}}}`, cosmwasm.RuleSyntax, "wasm.clear_admin.contract_addr"},
	{"message", `{"wasm":{"clear_admin":{"contract_addr":"` + strings.Repeat("a", 257) + `"}}}`, cosmwasm.RuleSize, "wasm.clear_admin.contract_addr"},
	{"message", `{"bank":{"burn":{"amount":[` + many(257, `{"denom":"a","amount":"1"}`) + `]}}}`, cosmwasm.RuleSize, "bank.burn.amount"},
	{"message", `{"custom":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, "", ""},
	{"message", `{"custom":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, cosmwasm.RuleDepth, "custom" + strings.Repeat("[0]", 63)},
	{"message", `{"custom":` + strings.Repeat("[", 500_000) + `}`, cosmwasm.RuleDepth, "custom" + strings.Repeat("[0]", 63)},
	{"message", `{"custom":1` + strings.Repeat("0", 64) + `}`, cosmwasm.RuleSize, "custom"},
	{"message", `{"custom":tru}`, cosmwasm.RuleSyntax, "custom"},
	{"message", `{"custom":"` + strings.Repeat("a", 1<<20) + `"}`, cosmwasm.RuleSize, ""},
	{"query", `{"bank":{"all_denom_metadata":{"pagination":{"limit":4294967296,"reverse":false}}}}`, cosmwasm.RuleRange, "bank.all_denom_metadata.pagination.limit"},
	{"query", `{"bank":{"all_denom_metadata":{"pagination":{"limit":1,"reverse":0}}}}`, cosmwasm.RuleType, "bank.all_denom_metadata.pagination.reverse"},
	{"query", `{"bank":{"all_denom_metadata":{"pagination":{"limit":1,"reverse":fals}}}}`, cosmwasm.RuleSyntax, "bank.all_denom_metadata.pagination.reverse"},
	{"query", `{"staking":{"all_validators":null}}`, cosmwasm.RuleType, "staking.all_validators"},
	{"query", `{"staking":"all_validators"}`, cosmwasm.RuleType, "staking"},
	{"query", `{"grpc":{"path":"/a","data":""}}`, cosmwasm.RuleUnsupported, "grpc"},
	{"query", `{"wasm":{"raw_range":{}}}`, cosmwasm.RuleUnsupported, "wasm.raw_range"},
	{"query", `{"custom":"` + strings.Repeat("a", 64<<10) + `"}`, cosmwasm.RuleSize, ""},
	{"answer", `{"ok":null}`, cosmwasm.RuleType, "ok"},
	{"answer", `{"ok":{"messages":[],"attributes":[],"data":null}}`, cosmwasm.RuleMissing, "ok"},
	{"answer", `{"error":"a","ok":null}`, cosmwasm.RuleVariant, ""},
	{"answer", subOf(`,"gas_limit":null`), cosmwasm.RuleMissing, "ok.messages[0]"},
	{"answer", subOf(`,"reply_on":"sometimes"`), cosmwasm.RuleVariant, "ok.messages[0].reply_on"},
	{"answer", subOf(`,"reply_on":"never","gas_limit":"5"`), cosmwasm.RuleType, "ok.messages[0].gas_limit"},
	{"answer", subOf(`,"reply_on":"never","payload":null`), cosmwasm.RuleType, "ok.messages[0].payload"},
	{"answer", subOf(`,"reply_on":"never","payload":"` + strings.Repeat("AAAA", (128<<10)/3) + `"`), "", ""},
	{"answer", subOf(`,"reply_on":"never","payload":"` + strings.Repeat("AAAA", (128<<10)/3+1) + `"`), cosmwasm.RuleSize, "ok.messages[0].payload"},
	{"answer", responseOf(many(256, `{"id":1,"msg":`+burn+`,"reply_on":"never"}`), many(256, `{"key":"a","value":"b"}`), many(256, `{"type":"ab","attributes":[]}`)), "", ""},
	{"answer", responseOf(many(257, `{"id":1,"msg":`+burn+`,"reply_on":"never"}`), "", ""), cosmwasm.RuleSize, "ok.messages"},
	{"answer", responseOf("", many(257, `{"key":"a","value":"b"}`), ""), cosmwasm.RuleSize, "ok.attributes"},
	{"answer", responseOf("", "", many(257, `{"type":"ab","attributes":[]}`)), cosmwasm.RuleSize, "ok.events"},
	{"answer", responseOf("", `{"key":"`+strings.Repeat("a", 257)+`","value":""}`, ""), cosmwasm.RuleSize, "ok.attributes[0].key"},
	{"answer", responseOf("", `{"key":"a","value":"`+strings.Repeat("a", 16<<10+1)+`"}`, ""), cosmwasm.RuleSize, "ok.attributes[0].value"},
	{"answer", responseOf("", `{"key":"a","value":"b"},{"key":" ","value":""}`, ""), cosmwasm.RuleEvent, "ok.attributes[1].key"},
	{"answer", responseOf("", `{"key":" _contract_address","value":"b"}`, ""), cosmwasm.RuleEvent, "ok.attributes[0].key"},
	{"answer", responseOf("", "", `{"type":"a","attributes":[]}`), cosmwasm.RuleEvent, "ok.events[0].type"},
	{"answer", responseOf("", "", `{"type":"ab","attributes":[{"key":"_","value":"b"}]}`), cosmwasm.RuleEvent, "ok.events[0].attributes[0].key"},
	{"answer", strings.Repeat(" ", 1<<20) + responseOf("", "", ""), cosmwasm.RuleSize, ""},
	{"codeinfo", `{"code_id":7,"creator":"a","checksum":"` + strings.Repeat("0", 63) + `"}`, cosmwasm.RuleType, "checksum"},
	{"codeinfo", `{"code_id":7,"creator":"a","checksum":"` + strings.Repeat("A", 64) + `"}`, cosmwasm.RuleType, "checksum"},
	{"message", `{"custom":{` + manyFields(257) + `}}`, cosmwasm.RuleSize, "custom"},
}

func TestRefused(t *testing.T) {
	for _, c := range refusedTexts {
		_, _, err := kinds[c.kind]([]byte(c.text))
		if c.rule == "" {
			if err != nil {
				t.Errorf("%.100s: %v", c.text, err)
			}
			continue
		}
		r, ok := errors.AsType[*cosmwasm.Refusal](err)
		if !ok || r.Rule != c.rule || r.Path != c.path || r.Detail == "" {
			t.Errorf("%.100s: %v, want %s: %s", c.text, err, c.path, c.rule)
		}
	}
}

// TestAnswersToQueriesAreBounded: a chain that reads an answer has an end to it.
func TestAnswersToQueriesAreBounded(t *testing.T) {
	for bytes, want := range map[int]bool{1 << 20: true, 1<<20 + 4: false} {
		text := `{"ok":"` + strings.Repeat("A", bytes-len(`{"ok":""}`)/4*4-4) + `"}`
		_, err := cosmwasm.DecodeQueryAnswer([]byte(text + strings.Repeat(" ", bytes-len(text))))
		if r, refused := errors.AsType[*cosmwasm.Refusal](err); err == nil != want || !want && (!refused || r.Rule != cosmwasm.RuleSize) {
			t.Errorf("%d bytes: %v", bytes, err)
		}
	}
}
