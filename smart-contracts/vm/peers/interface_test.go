package peers

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/CosmWasm/wasmvm/v3/types"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// rewritten is what one of our kinds of texts is written as after it was read.
func rewritten[T any](read func([]byte) (T, error), write func(T) []byte) func([]byte) ([]byte, error) {
	return func(data []byte) ([]byte, error) {
		v, err := read(data)
		if err != nil {
			return nil, err
		}
		return write(v), nil
	}
}

// interfaces are the kinds of texts, as theirs and as ours.
var interfaces = map[string]struct {
	theirs any
	ours   func([]byte) ([]byte, error)
}{
	"message":             {types.CosmosMsg{}, rewritten(cosmwasm.DecodeMessage, cosmwasm.EncodeMessage)},
	"query":               {types.QueryRequest{}, rewritten(cosmwasm.DecodeQuery, cosmwasm.EncodeQuery)},
	"answer":              {types.ContractResult{}, rewritten(cosmwasm.DecodeAnswer, cosmwasm.EncodeAnswer)},
	"queryanswer":         {types.QueryResult{}, rewritten(cosmwasm.DecodeQueryAnswer, cosmwasm.EncodeQueryAnswer)},
	"reached":             {types.QuerierResult{}, rewritten(cosmwasm.DecodeReached, cosmwasm.EncodeReached)},
	"env":                 {types.Env{}, rewritten(cosmwasm.Decode[cosmwasm.Env], cosmwasm.Encode[cosmwasm.Env])},
	"info":                {types.MessageInfo{}, rewritten(cosmwasm.Decode[cosmwasm.MessageInfo], cosmwasm.Encode[cosmwasm.MessageInfo])},
	"migrateinfo":         {types.MigrateInfo{}, rewritten(cosmwasm.Decode[cosmwasm.MigrateInfo], cosmwasm.Encode[cosmwasm.MigrateInfo])},
	"reply":               {types.Reply{}, rewritten(cosmwasm.Decode[cosmwasm.Reply], cosmwasm.Encode[cosmwasm.Reply])},
	"supply":              {types.SupplyResponse{}, rewritten(cosmwasm.Decode[cosmwasm.SupplyAnswer], cosmwasm.Encode[cosmwasm.SupplyAnswer])},
	"balances":            {types.AllBalancesResponse{}, rewritten(cosmwasm.Decode[cosmwasm.BalancesAnswer], cosmwasm.Encode[cosmwasm.BalancesAnswer])},
	"metadata":            {types.DenomMetadataResponse{}, rewritten(cosmwasm.Decode[cosmwasm.MetadataAnswer], cosmwasm.Encode[cosmwasm.MetadataAnswer])},
	"allmetadata":         {types.AllDenomMetadataResponse{}, rewritten(cosmwasm.Decode[cosmwasm.AllMetadataAnswer], cosmwasm.Encode[cosmwasm.AllMetadataAnswer])},
	"bondeddenom":         {types.BondedDenomResponse{}, rewritten(cosmwasm.Decode[cosmwasm.BondedDenomAnswer], cosmwasm.Encode[cosmwasm.BondedDenomAnswer])},
	"validators":          {types.AllValidatorsResponse{}, rewritten(cosmwasm.Decode[cosmwasm.ValidatorsAnswer], cosmwasm.Encode[cosmwasm.ValidatorsAnswer])},
	"validator":           {types.ValidatorResponse{}, rewritten(cosmwasm.Decode[cosmwasm.ValidatorAnswer], cosmwasm.Encode[cosmwasm.ValidatorAnswer])},
	"delegations":         {types.AllDelegationsResponse{}, rewritten(cosmwasm.Decode[cosmwasm.DelegationsAnswer], cosmwasm.Encode[cosmwasm.DelegationsAnswer])},
	"delegation":          {types.DelegationResponse{}, rewritten(cosmwasm.Decode[cosmwasm.DelegationAnswer], cosmwasm.Encode[cosmwasm.DelegationAnswer])},
	"withdrawaddress":     {types.DelegatorWithdrawAddressResponse{}, rewritten(cosmwasm.Decode[cosmwasm.WithdrawAddressAnswer], cosmwasm.Encode[cosmwasm.WithdrawAddressAnswer])},
	"rewards":             {types.DelegationRewardsResponse{}, rewritten(cosmwasm.Decode[cosmwasm.RewardsAnswer], cosmwasm.Encode[cosmwasm.RewardsAnswer])},
	"totalrewards":        {types.DelegationTotalRewardsResponse{}, rewritten(cosmwasm.Decode[cosmwasm.TotalRewardsAnswer], cosmwasm.Encode[cosmwasm.TotalRewardsAnswer])},
	"delegatorvalidators": {types.DelegatorValidatorsResponse{}, rewritten(cosmwasm.Decode[cosmwasm.DelegatorValidatorsAnswer], cosmwasm.Encode[cosmwasm.DelegatorValidatorsAnswer])},
	"contractinfo":        {types.ContractInfoResponse{}, rewritten(cosmwasm.Decode[cosmwasm.ContractInfoAnswer], cosmwasm.Encode[cosmwasm.ContractInfoAnswer])},
	"codeinfo":            {types.CodeInfoResponse{}, rewritten(cosmwasm.Decode[cosmwasm.CodeInfoAnswer], cosmwasm.Encode[cosmwasm.CodeInfoAnswer])},
}

// TestInterface: what we write, their types read, and what they write of it, we read
// as the same: no field is lost or has another name on either side.
func TestInterface(t *testing.T) {
	file, err := os.ReadFile("../../cosmwasm/testdata/examples.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(file)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if name == "#" {
			continue
		}
		seen[name] = true
		theirs := reflect.New(reflect.TypeOf(interfaces[name].theirs))
		if err := json.Unmarshal([]byte(text), theirs.Interface()); err != nil {
			t.Errorf("%s %s: they do not read it: %v", name, text, err)
			continue
		}
		written, err := json.Marshal(theirs.Elem().Interface())
		if err != nil {
			t.Errorf("%s %s: %v", name, text, err)
			continue
		}
		if got, err := interfaces[name].ours(written); err != nil || string(got) != text {
			t.Errorf("%s %s: they write %s, which we write %s (%v)", name, text, written, got, err)
		}
	}
	for name, pair := range map[string][2][]byte{
		"env":  {cosmwasm.Encode(ourEnv), encoded(t, env)},
		"info": {cosmwasm.Encode(ourInfo(t, info("fred"))), encoded(t, info("fred"))},
	} {
		if got, err := interfaces[name].ours(pair[1]); err != nil || string(got) != string(pair[0]) {
			t.Errorf("%s: ours is %s, theirs %s (%v)", name, pair[0], got, err)
		}
	}
	if len(seen) != len(interfaces) {
		t.Errorf("examples of %d kinds of %d", len(seen), len(interfaces))
	}
}
