package config

import (
	"reflect"
	"slices"
)

// Changed returns the keys whose values differ between s and other, in the order of
// the struct.
func (s *Server) Changed(other *Server) []string {
	var changed []string
	others := keysOf(other)
	for i, k := range keysOf(s) {
		if !sameValue(k, others[i]) {
			changed = append(changed, k.name)
		}
	}
	return changed
}

// Take gives keys the values that they have in other.
func (s *Server) Take(other *Server, keys []string) {
	others := keysOf(other)
	for i, k := range keysOf(s) {
		if slices.Contains(keys, k.name) {
			k.field.Set(others[i].field)
		}
	}
}

// sameValue compares what two keys are set to, wherever that stands.
func sameValue(a, b key) bool {
	if a.kind != "table" {
		return reflect.DeepEqual(a.field.Interface(), b.field.Interface())
	}
	others := b.tableKeys()
	for i, k := range a.tableKeys() {
		if !sameValue(k, others[i]) {
			return false
		}
	}
	return true
}
