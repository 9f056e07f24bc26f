package model

import (
	"strings"
)

// LabelUpload is the label of an upload that is about to be sealed.
func (c *Catalogue) LabelUpload(u Upload) (Label, error) {
	labels, err := c.label(u.ClientID, []Label{{
		Name: u.FileName, Path: u.Path, Size: u.Size, Checksum: u.Checksum, Digest: u.Digest, ModTime: u.ModTime, Mode: u.Mode, Protocol: u.Protocol,
	}})
	if err != nil {
		return Label{}, err
	}
	return labels[0], nil
}

// LabelSmall returns the labels of small files that are about to be kept.
func (c *Catalogue) LabelSmall(files []SmallFile) ([]Label, error) {
	labels := make([]Label, len(files))
	of := make(map[ID][]int) // indexes by client
	for i, f := range files {
		labels[i] = Label{Name: f.Name, Path: f.Name, Size: f.Size, Digest: f.Digest, ModTime: f.ModTime, Mode: f.Mode, Protocol: 4, Offset: f.PackOffset}
		of[f.Client] = append(of[f.Client], i)
	}
	for client, at := range of {
		own := make([]Label, len(at))
		for i, j := range at {
			own[i] = labels[j]
		}
		own, err := c.label(client, own)
		if err != nil {
			return nil, err
		}
		for i, j := range at {
			labels[j] = own[i]
		}
	}
	return labels, nil
}

// label adds to labels what the catalogue knows of the client and of what stands
// under their names.
func (c *Catalogue) label(client ID, labels []Label) ([]Label, error) {
	owner, _, err := c.view.client(client)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(labels))
	for i, l := range labels {
		names[i] = l.Name
	}
	standing, err := c.view.filesNamed(client, names)
	if err != nil {
		return nil, err
	}
	now := c.now()
	for i := range labels {
		l := &labels[i]
		l.Client, l.ClientName, l.Folder = client, owner.Name, owner.Folder
		l.Version, l.ReceivedAt = 1, now
		if have, there := standing[l.Name]; there {
			l.Version = have.Version + 1
			if below, ok := strings.CutPrefix(have.FilePath, l.Folder+"/"); ok {
				l.Path = below
			}
		}
	}
	return labels, nil
}

// LabelFile is the label of a file that the catalogue has.
func (c *Catalogue) LabelFile(f File) (Label, error) {
	owner, _, err := c.view.client(f.ClientID)
	if err != nil {
		return Label{}, err
	}
	return Label{
		Client: f.ClientID, ClientName: owner.Name, Folder: owner.Folder, Name: f.FileName, Path: strings.TrimPrefix(f.FilePath, owner.Folder+"/"),
		Size: f.Size, Checksum: f.Checksum, Digest: f.Digest, ModTime: f.ModTime, Mode: f.Mode, Protocol: f.Protocol,
		Version: f.Version, ReceivedAt: f.ReceivedAt.Time,
	}, nil
}
