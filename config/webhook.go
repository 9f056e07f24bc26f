package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const (
	webhookPrefix = "whsec_"
	// Bytes of a secret, as Standard Webhooks wants them.
	minWebhookSecret = 24
	maxWebhookSecret = 64

	webhookRemedy = "write whsec_ and the base64 of 24 to 64 random bytes, as openssl rand -base64 32 makes them"
)

// LoadWebhookSecret reads the secret that calls of the webhook are signed with:
// one line, "whsec_" and base64, as Standard Webhooks writes it. A file that others
// may read is refused.
func LoadWebhookSecret(path string) (Secret, error) {
	data, err := readFile(path, "the webhook's secret")
	if err != nil {
		return "", err
	}
	text := Secret(strings.TrimSpace(string(data)))
	if _, err := text.WebhookKey(); err != nil {
		return "", fmt.Errorf("%s: the webhook's secret: %w; %s", path, err, webhookRemedy)
	}
	return text, nil
}

// WebhookKey returns the bytes of a webhook's secret.
func (s Secret) WebhookKey() ([]byte, error) {
	digits, ok := strings.CutPrefix(string(s), webhookPrefix)
	if !ok {
		return nil, errors.New("no whsec_ in front")
	}
	key, err := base64.StdEncoding.DecodeString(digits)
	if err != nil {
		return nil, errors.New("not base64") // without what stands there
	}
	if len(key) < minWebhookSecret || len(key) > maxWebhookSecret {
		return nil, fmt.Errorf("%d bytes", len(key))
	}
	return key, nil
}
