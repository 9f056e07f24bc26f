package check

import (
	"bytes"
	"errors"

	"fenc/model"
)

// clients looks for what the storage's list of clients has and the catalogue has not:
// one that was restored from an older copy has forgotten who came since, and whom its
// operator has revoked.
func (r *run) clients() error {
	if len(bytes.TrimSpace(r.Roster)) == 0 {
		return nil
	}
	behind, err := r.catalogue.Behind(r.Roster)
	if err != nil {
		return err
	}
	for _, lag := range behind {
		if !lag.Unknown && !r.Alone {
			continue // the list is some seconds behind a server that runs
		}
		if err := r.client(lag); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) client(lag model.Lag) error {
	finding := Finding{Client: lag.Client.Name, Remedy: "fenc check --repair"}
	switch {
	case lag.Unknown:
		finding.Text = "the storage lists it and the catalogue does not know it"
		if !r.Repair {
			break
		}
		switch err := r.catalogue.Recall(lag.Client); {
		case errors.Is(err, model.ErrNameTaken):
			finding.Text += ": another client has its name by now"
			finding.Remedy = "see to whom its files belong"
		case err != nil:
			return err
		default:
			finding.Mended = "taken up, with its key and rights"
		}
	case lag.Revoked:
		finding.Text = "the storage lists it as revoked and the catalogue does not"
		if !r.Repair {
			break
		}
		if err := r.catalogue.Revoke(lag.Client.Name); err != nil && !errors.Is(err, model.ErrRevoked) {
			return err
		}
		finding.Mended = "revoked"
	default:
		finding.Text = "the storage lists it with another key or other rights than the catalogue"
		finding.Remedy = "fenc clients rekey or revoke it if somebody else may have its earlier key; fenc clients rights sets its rights"
	}
	r.report(finding)
	return nil
}
