package queue

import "gorm.io/gorm"

// Problem is something in a watched folder that should be sent and cannot be.
type Problem struct {
	Key
	Reason string
}

// problem is a Problem as a table has it.
type problem struct {
	Root   string `gorm:"primaryKey"`
	Path   string `gorm:"primaryKey"`
	Reason string `gorm:"not null"`
}

// TableName implements gorm's schema.Tabler.
func (problem) TableName() string { return "problems" }

// SetProblems remembers what cannot be sent of the served roots, in the place of what it was.
func (q *Queue) SetProblems(problems []Problem) error {
	rows := make([]problem, 0, len(problems))
	for _, p := range problems {
		rows = append(rows, problem{p.Root, p.Path, p.Reason})
	}
	return wrap("note what cannot be sent", q.db.Transaction(func(tx *gorm.DB) error {
		served, arguments := q.served()
		if err := tx.Exec("DELETE FROM problems WHERE "+served, arguments...).Error; err != nil || len(rows) == 0 {
			return err
		}
		return tx.CreateInBatches(rows, 100).Error
	}))
}

// Problems counts what cannot be sent, and returns up to limit of it, by path.
func (q *Queue) Problems(limit int) (total int64, problems []Problem, err error) {
	if !q.db.Migrator().HasTable(&problem{}) { // of a queue that is only looked at
		return 0, nil, nil
	}
	served, arguments := q.served()
	var rows []problem
	err = q.db.Model(&problem{}).Where(served, arguments...).Count(&total).Order("root, path").Limit(limit).Find(&rows).Error
	for _, r := range rows {
		problems = append(problems, Problem{Key{r.Root, r.Path}, r.Reason})
	}
	return total, problems, wrap("list what cannot be sent", err)
}
