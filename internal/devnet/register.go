package devnet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
)

// clusterFeeBps is the fee of a devnet's cluster, in 1/10,000 of a claim's cost.
const clusterFeeBps = 100

// Client returns a client of the network that trusts its genesis.
func (n *Network) Client() (*sdk.Client, error) {
	g, err := node.ReadGenesisFile(filepath.Join(n.plan.dir, node.GenesisFile))
	if err != nil {
		return nil, err
	}
	return sdk.New(sdk.Config{Nodes: n.plan.rpc(), Nexus: n.plan.nexus(), Genesis: g})
}

// registration is one account's message to the chain, unless key is there
// already.
type registration struct {
	account string
	key     []byte
	message func(owner chain.Address) chain.Msg
}

// register makes the cluster and the providers known to the chain.
func (n *Network) register(ctx context.Context) error {
	client, err := n.Client()
	if err != nil {
		return err
	}
	p := n.plan
	cluster, err := node.ReadKey(filepath.Join(p.home(roleNexus, 0), clusterKeyFile))
	if err != nil {
		return err
	}
	possession := func(key crypto.PrivateKey, owner chain.Address) crypto.Signature {
		return key.Sign(crypto.DomainPossession, chain.PossessionPayload(p.ChainID, owner))
	}
	list := []registration{{account: "operator", key: settlement.ClusterKey(cluster.Public()), message: func(owner chain.Address) chain.Msg {
		return chain.RegisterCluster{
			Cluster: cluster.Public(), Possession: possession(cluster, owner), Bond: Params(DefaultEpoch).ClusterBond, FeeBps: clusterFeeBps, Endpoints: p.nexus()[:min(p.Servers, chain.MaxEndpoints)],
		}
	}}}
	for i := range p.Agents {
		key, err := node.ReadKey(filepath.Join(p.home(roleAgent, i), node.NodeKeyFile))
		if err != nil {
			return err
		}
		list = append(list, registration{account: fmt.Sprintf("provider-%d", i), key: settlement.ProviderKey(key.Public()), message: func(owner chain.Address) chain.Msg {
			return chain.RegisterProvider{
				Node: key.Public(), Possession: possession(key, owner), Bond: Params(DefaultEpoch).ProviderBond, Region: agentRegion, Millicores: agentMillicores, MemoryMiB: agentMemoryMiB,
			}
		}})
	}
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, r := range list {
		wg.Go(func() { errs[i] = n.registerOne(ctx, client, r) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (n *Network) registerOne(ctx context.Context, client *sdk.Client, r registration) error {
	known, err := client.State(ctx, r.key)
	if err != nil || known.Present {
		return err
	}
	signer, err := n.plan.account(r.account).Wallet()
	if err != nil {
		return err
	}
	if _, err := client.NewBuilder(signer, sdk.BuilderOptions{}).SendAndWait(ctx, r.message(signer.Address())); err != nil {
		return fmt.Errorf("devnet: registering %s: %w", r.account, err)
	}
	return nil
}
