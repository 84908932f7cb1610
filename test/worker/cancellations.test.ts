import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { createCancellations } from '../../worker/cancellations.ts'

t.test('who is about to watch learns of a hint that has come before', async (t) => {
  const database = openDatabase({ url: 'postgres://nobody' })
  t.teardown(() => database.close())
  const cancellations = createCancellations(database)
  cancellations.hint(['early', 'other'])
  const told: string[] = []
  cancellations.watch('early', () => told.push('early'))
  cancellations.watch('late', () => told.push('late'))
  t.same(told, ['early'])
})

t.test('an attempt that ends leaves the next one of the same job to be told', async (t) => {
  const database = openDatabase({ url: 'postgres://nobody' })
  t.teardown(() => database.close())
  const cancellations = createCancellations(database)
  const told: string[] = []
  const unwatchFirst = cancellations.watch('job', () => told.push('first'))
  const unwatchSecond = cancellations.watch('job', () => told.push('second'))
  unwatchFirst()
  cancellations.hint(['job'])
  t.same(told, ['second'])
  unwatchSecond()
  cancellations.hint(['job'])
  t.same(told, ['second'])
})
