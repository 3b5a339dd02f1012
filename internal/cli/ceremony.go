package cli

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"cardea/internal/approval"
	"cardea/internal/ceremony"
	"cardea/internal/custodian"
	"cardea/internal/notekey"
	"cardea/internal/secret"
)

type ceremonyCommands struct {
	Generate   ceremonyGenerateCommand   `cmd:"" help:"Make key material of components, a file for each custodian."`
	Check      ceremonyCheckCommand      `cmd:"" help:"Check a component and print its check value, never the component."`
	Parameters ceremonyParametersCommand `cmd:"" help:"Get what wraps material for a key (GetParametersForImport), to take to a machine without a network."`
	Wrap       ceremonyWrapCommand       `cmd:"" help:"Combine the custodians' components in memory and wrap the key for import. Needs no network."`
	Import     ceremonyImportCommand     `cmd:"" help:"Import wrapped material (ImportKeyMaterial)."`
}

type ceremonyCheckCommand struct {
	Component string `arg:"" type:"path" placeholder:"FILE" help:"The component."`
}

// Help implements kong.HelpProvider.
func (ceremonyCheckCommand) Help() string {
	return "Examples:\n  cardea ceremony check component-1-of-3.txt"
}

func (c ceremonyCheckCommand) Run(p *Process) error {
	x, err := readComponent(c.Component)
	if err != nil {
		return err
	}
	defer ceremony.Destroy([]ceremony.Component{x})
	_, err = fmt.Fprintf(p.Stdout, "set %s, %s, %s, check value %s\n", x.Set, x.Name(), x.Algorithm, x.KCV())
	return err
}

func readComponent(path string) (ceremony.Component, error) {
	text, err := readSmall(path)
	if err != nil {
		return ceremony.Component{}, err
	}
	s := secret.New(text)
	defer s.Destroy()
	x, err := ceremony.ParseComponent(s)
	if err != nil {
		return x, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}

func readShare(path string) (custodian.Part, error) {
	s, err := secretFile(path)
	if err != nil {
		return custodian.Part{}, err
	}
	defer s.Destroy()
	x, err := custodian.ParseShare(s)
	if err != nil {
		return x, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}

// custodianSigns checks that a key is that of a custodian in the register.
func custodianSigns(reg *approval.Register, s *notekey.Signer, now time.Time) error {
	if err := reg.Custodian(s.Name(), now); err != nil {
		return err
	}
	person, err := reg.Person(s.Name())
	if err == nil && person.Key != s.Verifier() {
		err = fmt.Errorf("the key is not the one that the register has of %q", s.Name())
	}
	return err
}

// custodianVerifiers are the keys of the custodians whose word counts.
func custodianVerifiers(reg *approval.Register, now time.Time) note.Verifiers {
	var all []note.Verifier
	for _, p := range reg.People {
		if !slices.Contains(p.Roles, approval.RoleCustodian) || reg.Custodian(p.Name, now) != nil {
			continue
		}
		if v, err := note.NewVerifier(p.Key); err == nil {
			all = append(all, v)
		}
	}
	return note.VerifierList(all...)
}
