import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { createSnapshotReader } from '../../../src/http/streams/snapshot.ts'
import { openJobs } from '../../support/jobs.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

t.test('requests of the same principal share one read, and no snapshot is older than its request', async (t) => {
  const jobs = await openJobs(t, [note])
  const first = await jobs.add(note, {})
  const readSnapshot = createSnapshotReader(jobs.database)
  const early = [readSnapshot('ann'), readSnapshot('ann')]
  // Lets the first read start.
  await new Promise(setImmediate)
  const second = await jobs.add(note, {})
  const late = [readSnapshot('ann'), readSnapshot('ann')]
  const idsOf = async (snapshot: ReturnType<typeof readSnapshot>) => (await snapshot).jobs.map(({ id }) => id)
  for (const snapshot of early) t.equal((await idsOf(snapshot))[0], first)
  for (const snapshot of late) t.same(await idsOf(snapshot), [first, second])
  t.equal(await early[0], await early[1])
  t.equal(await late[0], await late[1])
  t.same(await idsOf(readSnapshot('bob')), [])
  const third = await jobs.add(note, {})
  t.same(await idsOf(readSnapshot('ann')), [first, second, third])
})

t.test('if a read fails, all requests that share the read fail, and the next request reads again', async (t) => {
  const jobs = await openJobs(t, [note])
  const readSnapshot = createSnapshotReader(jobs.database)
  await jobs.query('alter table accepted.job rename to gone')
  const failing = [readSnapshot('ann'), readSnapshot('ann')]
  for (const snapshot of failing) await t.rejects(snapshot, /accepted\.job/)
  await jobs.query('alter table accepted.gone rename to job')
  t.same((await readSnapshot('ann')).jobs, [])
})
