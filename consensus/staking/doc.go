// Package staking is bonds, delegations, committees, evidence, slashing and
// rewards.
package staking
