import t from 'tap'
import { openDatabase } from '../../../src/db/database.ts'
import { createCancellations } from '../../../worker/execution/cancellation.ts'

t.test('a cancel request that arrives shortly before the watch is passed on to it', async (t) => {
  const database = openDatabase({ url: 'postgres://nobody' })
  t.teardown(() => database.close())
  const cancellations = createCancellations(database)
  cancellations.request(['early', 'other'])
  const canceled: string[] = []
  cancellations.watch('early', () => canceled.push('early'))
  cancellations.watch('late', () => canceled.push('late'))
  t.same(canceled, ['early'])
})

t.test('when an attempt stops watching, the next attempt of the job still gets cancel requests', async (t) => {
  const database = openDatabase({ url: 'postgres://nobody' })
  t.teardown(() => database.close())
  const cancellations = createCancellations(database)
  const canceled: string[] = []
  const unwatchFirst = cancellations.watch('job', () => canceled.push('first'))
  const unwatchSecond = cancellations.watch('job', () => canceled.push('second'))
  unwatchFirst()
  cancellations.request(['job'])
  t.same(canceled, ['second'])
  unwatchSecond()
  cancellations.request(['job'])
  t.same(canceled, ['second'])
})
