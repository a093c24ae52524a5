package bounding

import "slices"

// keyIndex gives keys positions, in the order in which they come. Of few keys, which is what most customers have, it
// compares them all.
type keyIndex struct {
	keys  []string
	at    map[string]int // of many
	isNew bool           // the last one that was asked for had no position before
}

// fewKeys are compared faster than hashed.
const fewKeys = 12

func (x *keyIndex) reset() {
	x.keys = x.keys[:0]
	if len(x.at) > 0 {
		clear(x.at)
	}
}

// of is the position of a key.
func (x *keyIndex) of(key string) int {
	x.isNew = false
	if len(x.keys) <= fewKeys {
		if at := slices.Index(x.keys, key); at >= 0 {
			return at
		}
	} else if at, ok := x.at[key]; ok {
		return at
	}
	x.isNew = true
	x.keys = append(x.keys, key)
	if len(x.keys) > fewKeys {
		if len(x.at) == 0 {
			if x.at == nil {
				x.at = make(map[string]int)
			}
			for at, known := range x.keys {
				x.at[known] = at
			}
		}
		x.at[key] = len(x.keys) - 1
	}
	return len(x.keys) - 1
}

// sorted are the keys by their bytes.
func (x *keyIndex) sorted() []string {
	if len(x.keys) < 2 {
		return x.keys
	}
	keys := slices.Clone(x.keys)
	slices.Sort(keys)
	return keys
}

// grown is a list with a position.
func grown[E any](list []E, at int) []E {
	for len(list) <= at {
		var none E
		list = append(list, none)
	}
	return list
}
