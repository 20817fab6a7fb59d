package explorer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	pageRows     = 25  // of a list
	overviewRows = 8   // of a list on the overview
	stripBlocks  = 60  // of the overview's picture
	paceBlocks   = 100 // over which speed is measured
	maxParties   = 500 // on one page
	maxClaims    = 256 // on one page
)

// line is a transaction in a list.
type line struct {
	txRow
	When moment
}

func (r *request) lines(rows []txRow) []line {
	out := make([]line, len(rows))
	for i, row := range rows {
		out[i] = line{txRow: row, When: momentOf(row.Time, r.now)}
	}
	return out
}

// blockLine is a block in a list.
type blockLine struct {
	blockRow
	When moment
}

func (r *request) blockLines(rows []blockRow) []blockLine {
	out := make([]blockLine, len(rows))
	for i, row := range rows {
		out[i] = blockLine{blockRow: row, When: momentOf(row.Time, r.now)}
	}
	return out
}

// overviewFigures are the key figures, in JSON too.
type overviewFigures struct {
	ChainID       chain.ChainID `json:"chain_id"`
	Height        chain.Height  `json:"height"`
	Behind        uint64        `json:"behind"`
	BlockMs       float64       `json:"block_ms"`
	TxsPerSecond  float64       `json:"txs_per_second"`
	Txs           uint64        `json:"txs"`
	Minted        chain.Amount  `json:"minted_nhyper"`
	Burned        chain.Amount  `json:"burned_nhyper"`
	Supply        chain.Amount  `json:"supply_nhyper"`
	SettledBurned chain.Amount  `json:"burned_by_settlements_nhyper"`
	SettledCost   chain.Amount  `json:"settled_cost_nhyper"`
	Validators    int           `json:"validators"` // −1: unknown
	JobsSettled   uint64        `json:"jobs_settled"`
	Since         chain.Height  `json:"sums_since"` // sums begin with this block
	Gaps          int           `json:"gaps"`
}

func (s *site) figures(ctx context.Context, v *view, t *tip) (overviewFigures, error) {
	blockMs, perSecond, err := v.pace(paceBlocks)
	if err != nil {
		return overviewFigures{}, err
	}
	gaps, err := v.gaps(maxParties)
	if err != nil {
		return overviewFigures{}, err
	}
	burned, ok := t.FeesBurned.Add(t.SettledBurned)
	supply, fits := chain.TotalSupply.Sub(burned)
	if !ok || !fits {
		return overviewFigures{}, fmt.Errorf("burned are %s and %s, more than the supply", t.FeesBurned, t.SettledBurned)
	}
	out := overviewFigures{
		ChainID: t.ChainID, Height: t.Height, Behind: s.status(v.now).Behind, BlockMs: blockMs, TxsPerSecond: perSecond, Txs: t.Txs,
		Minted: chain.TotalSupply, Burned: burned, Supply: supply, SettledBurned: t.SettledBurned, SettledCost: t.SettledCost,
		JobsSettled: t.Jobs, Since: t.First, Gaps: len(gaps), Validators: -1,
	}
	if committee, err := s.committee(ctx); err == nil {
		out.Validators = len(committee.Validators)
	}
	// The state knows what gaps hide; the index' own sums are the fallback.
	known, err := s.supply.get(ctx, s.config.AskTimeout, func(ctx context.Context) (api.Supply, error) { return s.client.Supply(ctx, false) })
	if err == nil {
		out.Minted, out.Burned, out.Supply = known.Minted, known.Burned, known.Total
	}
	return out, nil
}

func (s *site) committee(ctx context.Context) (api.Validators, error) {
	return s.validators.get(ctx, s.config.AskTimeout, s.client.Validators)
}

// nexusNodes returns what the cluster knows of its nodes; none if there is no
// cluster to ask.
func (s *site) nexusNodes(ctx context.Context) ([]api.NexusNode, error) {
	if len(s.config.Nexus) == 0 {
		return nil, nil
	}
	return s.nodes.get(ctx, s.config.AskTimeout, s.client.Nodes)
}

// nexusJobs returns the cluster's newest jobs; none if there is no cluster to
// ask.
func (s *site) nexusJobs(ctx context.Context) ([]api.Job, error) {
	if len(s.config.Nexus) == 0 {
		return nil, nil
	}
	return s.jobs.get(ctx, s.config.AskTimeout, func(ctx context.Context) ([]api.Job, error) {
		return s.someJobs(ctx, chain.Address{})
	})
}

func (s *site) someJobs(ctx context.Context, consumer chain.Address) ([]api.Job, error) {
	var out []api.Job
	for job, err := range s.client.Jobs(ctx, consumer) {
		if err != nil {
			return nil, err
		}
		if out = append(out, job); len(out) == pageRows {
			break
		}
	}
	return out, nil
}

type overviewPage struct {
	Figures overviewFigures
	Strip   strip
	Blocks  []blockLine
	Txs     []line
	Jobs    []jobLine
	Pace    string
	Speed   string
}

func (s *site) overview(r *request) (*answer, error) {
	figures, err := s.figures(r.ctx, r.view, &r.tip)
	if err != nil {
		return nil, err
	}
	blocks, err := r.view.blocks(maxHeight, stripBlocks)
	if err != nil {
		return nil, err
	}
	txs, err := r.view.txsBefore(endOfTime, overviewRows)
	if err != nil {
		return nil, err
	}
	jobs, _, err := s.jobLines(r, endOfTime, overviewRows)
	if err != nil {
		return nil, err
	}
	jobs = jobs[:min(overviewRows, len(jobs))]
	page := overviewPage{
		Figures: figures, Strip: stripOf(blocks), Blocks: r.blockLines(blocks[:min(overviewRows, len(blocks))]), Txs: r.lines(txs), Jobs: jobs,
		Pace: "–", Speed: strconv.FormatFloat(figures.TxsPerSecond, 'f', 1, 64),
	}
	if figures.BlockMs > 0 {
		page.Pace = lasting(uint64(figures.BlockMs))
	}
	if figures.TxsPerSecond >= 100 {
		page.Speed = grouped(uint64(figures.TxsPerSecond))
	}
	return &answer{template: "overview", title: "Overview", live: true, body: page}, nil
}

// strip is a picture of recent blocks: a bar for each, as high as it is full.
type strip struct {
	Bars  []bar
	Width int
	Most  int // transactions
}

type bar struct {
	X, Y, Height int
	Block        chain.Height
	Txs          int
}

const (
	barStep    = 10 // width and gap
	barHighest = 60
	barLeast   = 2
)

func stripOf(newestFirst []blockRow) strip {
	out := strip{Width: stripBlocks * barStep}
	for _, b := range newestFirst {
		out.Most = max(out.Most, b.Txs)
	}
	for i, b := range newestFirst {
		height := barLeast
		if out.Most > 0 {
			height += (barHighest - barLeast) * b.Txs / out.Most
		}
		out.Bars = append(out.Bars, bar{X: out.Width - (i+1)*barStep, Y: barHighest - height, Height: height, Block: b.Height, Txs: b.Txs})
	}
	return out
}

// before reads the ?before= of a list's next page.
func (r *request) before() (uint64, error) {
	text := r.URL.Query().Get("before")
	if text == "" {
		return uint64(endOfTime), nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "before is %.40q, which is no place in a list.", text)
	}
	return n, nil
}

// blocksPage, like every list's page, has the place where the next page begins,
// 0 if this is the last, and whether it is the first.
type blocksPage struct {
	Blocks []blockLine
	Next   chain.Height
	First  bool
	Gaps   []gap
}

func (s *site) blockList(r *request) (*answer, error) {
	before, err := r.before()
	if err != nil {
		return nil, err
	}
	rows, err := r.view.blocks(chain.Height(before), pageRows+1)
	if err != nil {
		return nil, err
	}
	gaps, err := r.view.gaps(pageRows)
	if err != nil {
		return nil, err
	}
	page := blocksPage{First: before == uint64(endOfTime), Gaps: gaps}
	if len(rows) > pageRows {
		rows = rows[:pageRows]
		page.Next = rows[pageRows-1].Height
	}
	page.Blocks = r.blockLines(rows)
	return &answer{template: "blocks", title: "Blocks", live: page.First, body: page}, nil
}

type blockPage struct {
	blockFull
	When        moment
	Txs         []line
	TxCount     int
	Next        place // of the next page of transactions
	From        int   // index of the first shown
	Newest      bool
	Certificate string
	HeaderTree  branch
}

// Previous tells templates the height below.
func (p blockPage) Previous() chain.Height { return p.Height - 1 }

// Following tells templates the height above.
func (p blockPage) Following() chain.Height { return p.Height + 1 }

func (s *site) block(r *request) (*answer, error) {
	text := r.PathValue("height")
	height, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s is no height: want a number.", quoted(bounded(text, 40)))
	}
	block, err := r.view.block(chain.Height(height))
	if err != nil {
		return nil, found(err, s.whyNoBlock(r, chain.Height(height)))
	}
	from := placeOf(block.Height, 0)
	if text := r.URL.Query().Get("from"); text != "" {
		index, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "from is %.40q, which is no index.", text)
		}
		from = placeOf(block.Height, int(index))
	}
	rows, err := r.view.txsBetween(from, placeOf(block.Height+1, 0), 2*pageRows+1)
	if err != nil {
		return nil, err
	}
	page := blockPage{blockFull: block, When: momentOf(block.Time, r.now), TxCount: block.blockRow.Txs, Newest: block.Height == r.tip.Height, Certificate: s.certificate(r, block.Height)}
	if len(rows) > 2*pageRows {
		page.Next = rows[2*pageRows].Place & (1<<positionBits - 1)
		rows = rows[:2*pageRows]
	}
	if len(rows) > 0 {
		page.From = rows[0].Place.Index()
	}
	page.Txs = r.lines(rows)
	page.HeaderTree, err = treeOf("header", api.HeaderToJSON(block.Header))
	return &answer{template: "block", title: "Block " + grouped(block.Height), live: page.Newest, body: page}, err
}

// whyNoBlock says why the index does not have a height.
func (s *site) whyNoBlock(r *request, height chain.Height) string {
	now := s.status(r.now)
	switch {
	case height == 0:
		return "Height 0 is genesis: it has no block."
	case height > now.Head:
		return fmt.Sprintf("The chain has not reached block %s yet. It is at %s.", grouped(height), grouped(now.Head))
	case height > r.tip.Height:
		return fmt.Sprintf("Block %s is final, but the index is only at %s. Try again soon.", grouped(height), grouped(r.tip.Height))
	}
	return fmt.Sprintf("Block %s is older than what this explorer keeps.", grouped(height))
}

// certificate says, as far as the node tells, how a block became final.
func (s *site) certificate(r *request, height chain.Height) string {
	ctx, cancel := context.WithTimeout(r.ctx, s.config.AskTimeout)
	defer cancel()
	block, err := s.client.Block(ctx, height, api.BlockHeader)
	if err != nil {
		return "the node does not tell now"
	}
	c := &block.Certificate
	text := fmt.Sprintf("%s signed in epoch %s, view %s", counted(len(c.Signers), "validator"), grouped(c.Epoch), grouped(c.View))
	if len(c.Path) > 0 {
		text += ", for the block " + counted(len(c.Path), "height") + " above"
	}
	return text
}

type txsPage struct {
	Txs   []line
	Next  place
	First bool
}

func (s *site) txList(r *request) (*answer, error) {
	before, err := r.before()
	if err != nil {
		return nil, err
	}
	rows, err := r.view.txsBefore(place(before), pageRows+1)
	if err != nil {
		return nil, err
	}
	page := txsPage{First: place(before) == endOfTime}
	if len(rows) > pageRows {
		rows = rows[:pageRows]
		page.Next = rows[pageRows-1].Place
	}
	page.Txs = r.lines(rows)
	return &answer{template: "txs", title: "Transactions", live: page.First, body: page}, nil
}

type txPage struct {
	ID      crypto.Digest
	Pending bool
	Row     txRow
	When    moment
	Tree    branch
	Block   chain.Height
	Index   int
	Fee     chain.Amount // burned and tip together
	Limit   string       // of the fee
	Jobs    []crypto.Digest
}

func (s *site) tx(r *request) (*answer, error) {
	id, err := crypto.ParseDigest(r.PathValue("id"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s is no transaction id: want 64 hexadecimal digits.", quoted(bounded(r.PathValue("id"), 80)))
	}
	page := txPage{ID: id}
	page.Row, err = r.view.transaction(id)
	if err != nil {
		if err = found(err, "This transaction is not in the index, and not in the node's mempool."); err != nil && !s.pendingTx(r, &page) {
			return nil, err
		}
	}
	body := &page.Row.Tx.Body
	if page.Tree, err = treeOf("transaction", api.TxToJSON(page.Row.Tx)); err != nil {
		return nil, err
	}
	page.When = momentOf(page.Row.Time, r.now)
	page.Block, page.Index = page.Row.Place.Height(), page.Row.Place.Index()
	fee, ok := page.Row.Receipt.Burned.Add(page.Row.Receipt.Tip)
	limit, fits := body.GasLimit.Cost(body.MaxFee)
	if !ok {
		return nil, errors.New("the fee does not fit an amount")
	}
	page.Fee = fee
	if page.Limit = "beyond every amount"; fits {
		page.Limit = moneyOf(limit).String()
	}
	page.Jobs = ordersOf(body)
	return &answer{template: "tx", title: "Transaction " + shortDigest(id), live: page.Pending, body: page}, nil
}

// pendingTx asks the node for a transaction that is not in the index.
func (s *site) pendingTx(r *request, page *txPage) bool {
	ctx, cancel := context.WithTimeout(r.ctx, s.config.AskTimeout)
	defer cancel()
	lookup, err := s.client.Tx(ctx, page.ID)
	if err != nil || lookup.Tx == nil {
		return false
	}
	tx, err := api.TxFromJSON(*lookup.Tx)
	if err != nil {
		return false
	}
	page.Pending, page.Row = true, txRow{ID: page.ID, Tx: tx}
	return true
}

// ordersOf lists, each once, the orders that a transaction posts claims of.
func ordersOf(body *chain.TxBody) []crypto.Digest {
	var out []crypto.Digest
	seen := map[crypto.Digest]bool{}
	for _, m := range body.Messages {
		settle, ok := m.(chain.Settle)
		if !ok {
			continue
		}
		for i := range settle.Claims {
			if id := settle.Claims[i].Receipt.Order; !seen[id] {
				seen[id] = true
				out = append(out, id)
			}
		}
	}
	return out
}

type accountPage struct {
	Address   chain.Address
	Account   *api.Account // nil: the node does not tell now
	Provider  *api.Facts   // nil: it owns no node, or the node does not tell now
	Consumer  *api.Facts   // nil: it has no escrow, or the node does not tell now
	Activity  []activityLine
	Count     string
	Next      place
	First     bool
	Parties   []partyLine
	Jobs      []api.Job
	NexusDown bool
}

// activityLine is a transaction, or a block's own events.
type activityLine struct {
	Tx     *line
	Block  chain.Height
	When   moment
	Events []sentence
}

// maxCounted bounds the counting of an account's activity.
const maxCounted = 10_000

func (s *site) account(r *request) (*answer, error) {
	address, err := chain.ParseAddress(r.PathValue("address"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s is no address: %s", quoted(bounded(r.PathValue("address"), 100)), err)
	}
	before, err := r.before()
	if err != nil {
		return nil, err
	}
	page := accountPage{Address: address, First: place(before) == endOfTime}
	if err := s.accountActivity(r, &page, place(before)); err != nil {
		return nil, err
	}
	owned, err := r.view.ownedBy(address, maxParties)
	if err != nil {
		return nil, err
	}
	page.Parties = r.partyLines(owned, nil)
	ctx, cancel := context.WithTimeout(r.ctx, s.config.AskTimeout)
	defer cancel()
	if account, err := s.client.Account(ctx, address); err == nil {
		page.Account = &account
	}
	if said, err := s.client.Reputation(ctx, address.String()); err == nil {
		page.Provider, page.Consumer = said.Provider, said.Consumer
	}
	if len(s.config.Nexus) > 0 {
		page.Jobs, err = s.someJobs(ctx, address)
		page.NexusDown = err != nil
	}
	return &answer{template: "account", title: "Account " + address.Short(), live: page.First, body: page}, nil
}

func (s *site) accountActivity(r *request, page *accountPage, before place) error {
	places, err := r.view.activity(page.Address, before, pageRows+1)
	if err != nil {
		return err
	}
	if len(places) > pageRows {
		places = places[:pageRows]
		page.Next = places[pageRows-1]
	}
	for _, at := range places {
		item, err := r.activityAt(page.Address, at)
		if err != nil {
			return err
		}
		page.Activity = append(page.Activity, item)
	}
	count, err := r.view.activityCount(page.Address, maxCounted+1)
	if page.Count = grouped(count); count > maxCounted {
		page.Count = "more than " + grouped(maxCounted)
	}
	return err
}

func (r *request) activityAt(address chain.Address, at place) (activityLine, error) {
	if at.Index() >= 0 {
		row, err := r.view.txAt(at)
		lines := r.lines([]txRow{row})
		return activityLine{Tx: &lines[0], Block: at.Height(), When: lines[0].When}, err
	}
	block, err := r.view.block(at.Height())
	item := activityLine{Block: at.Height(), When: momentOf(block.Time, r.now)}
	for _, events := range []chain.Events{block.Begin, block.End} {
		for _, e := range events {
			for _, concerned := range appendFromEvent(nil, e) {
				if concerned == address {
					item.Events = append(item.Events, sayEvent(e))
					break
				}
			}
		}
	}
	return item, err
}

type validatorsPage struct {
	Committee *api.Validators // nil: the node does not tell now
	Lines     []validatorLine
	Over      int // blocks looked at
}

type validatorLine struct {
	api.Validator
	Proposed int
	Share    string // of the voting weight
}

func (s *site) validatorList(r *request) (*answer, error) {
	proposed, over, err := r.view.proposed(1_000)
	if err != nil {
		return nil, err
	}
	page := validatorsPage{Over: over}
	if committee, err := s.committee(r.ctx); err == nil {
		page.Committee = &committee
		for _, v := range committee.Validators {
			share := "–"
			if committee.TotalWeight > 0 {
				share = fmt.Sprintf("%.2f %%", 100*float64(v.Weight)/float64(committee.TotalWeight))
			}
			page.Lines = append(page.Lines, validatorLine{Validator: v, Proposed: proposed[v.ConsensusKey], Share: share})
		}
	}
	return &answer{template: "validators", title: "Validators", live: true, body: page}, nil
}
