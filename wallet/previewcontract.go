package wallet

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// shownMsg is how much of what is said to a contract a preview shows.
const shownMsg = 512

// contractSentence says what a message about contracts does.
func contractSentence(m any) string {
	switch m := m.(type) {
	case chain.StoreCode:
		return fmt.Sprintf("brings bytes %d to %d of the code of contracts %s, %d bytes, and burns what the room costs",
			m.Offset, m.Offset+uint64(len(m.Part)), m.Checksum, m.Size)
	case chain.InstantiateContract:
		admin := "nobody may change it later"
		if m.Admin != nil {
			admin = fmt.Sprintf("%s may change its code and what it holds", m.Admin)
		}
		return fmt.Sprintf("makes a contract %q of code %d with %s, says %s to it; %s; %s", m.Label, m.Code, m.Funds, said(m.Msg), forRoom(m.MaxDeposit), admin)
	case chain.ExecuteContract:
		return fmt.Sprintf("gives contract %s %s and says %s to it; %s", m.Contract, m.Funds, said(m.Msg), forRoom(m.MaxDeposit))
	case chain.MigrateContract:
		return fmt.Sprintf("gives contract %s the code %d and says %s to it; %s", m.Contract, m.Code, said(m.Msg), forRoom(m.MaxDeposit))
	case chain.SetContractAdmin:
		if m.Admin == nil {
			return fmt.Sprintf("makes contract %s one that nobody changes any more, for good", m.Contract)
		}
		return fmt.Sprintf("lets %s change contract %s from now on, and nobody else", m.Admin, m.Contract)
	case chain.PinCode:
		days := "a day"
		if m.Periods > 1 {
			days = fmt.Sprintf("%d days", m.Periods)
		}
		return fmt.Sprintf("has every node keep code %d in memory for %s more, and burns at most %s for it", m.Code, days, m.MaxBurn)
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}

// forRoom says what a call may cost beside its funds and the fee.
func forRoom(most chain.Amount) string {
	if most.IsZero() {
		return "it takes nothing for room"
	}
	return fmt.Sprintf("who pays the fee pays at most %s for room", most)
}

// said quotes what is said to a contract, so that it cannot pose as part of the text.
func said(msg []byte) string {
	if len(msg) > shownMsg {
		return fmt.Sprintf("%q… (%d bytes)", msg[:shownMsg], len(msg))
	}
	return fmt.Sprintf("%q", msg)
}
