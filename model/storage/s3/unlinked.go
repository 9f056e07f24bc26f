package s3

import "os"

// unlinked makes a file in dir and takes its name away. Where an open file cannot
// lose its name (Windows), leftover has it, to be removed once the file is closed.
func unlinked(dir string) (file *os.File, leftover string, err error) {
	file, err = os.CreateTemp(dir, "fenc-part-*")
	if err != nil {
		return nil, "", err
	}
	if os.Remove(file.Name()) != nil {
		leftover = file.Name()
	}
	return file, leftover, nil
}
