import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { createSnapshots } from '../../src/http/snapshot.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

t.test('those who ask at once, or while it is being read, share what is read for them; none is older', async (t) => {
  const jobs = await openJobs(t, [note])
  const first = await jobs.add(note, {})
  const snapshotOf = createSnapshots(jobs.database)
  const atOnce = [snapshotOf('ann'), snapshotOf('ann')]
  // By then the first one is being read.
  await new Promise(setImmediate)
  const second = await jobs.add(note, {})
  const meanwhile = [snapshotOf('ann'), snapshotOf('ann')]
  const of = async (snapshot: ReturnType<typeof snapshotOf>) => (await snapshot).jobs.map(({ id }) => id)
  for (const snapshot of atOnce) t.equal((await of(snapshot))[0], first)
  for (const snapshot of meanwhile) t.same(await of(snapshot), [first, second])
  t.equal(await atOnce[0], await atOnce[1])
  t.equal(await meanwhile[0], await meanwhile[1])
  t.same(await of(snapshotOf('bob')), [])
  const third = await jobs.add(note, {})
  t.same(await of(snapshotOf('ann')), [first, second, third])
})

t.test('one that cannot be read fails for those who share it, and nobody else', async (t) => {
  const jobs = await openJobs(t, [note])
  const snapshotOf = createSnapshots(jobs.database)
  await jobs.query('alter table accepted.job rename to gone')
  const failing = [snapshotOf('ann'), snapshotOf('ann')]
  for (const snapshot of failing) await t.rejects(snapshot, /accepted\.job/)
  await jobs.query('alter table accepted.gone rename to job')
  t.same((await snapshotOf('ann')).jobs, [])
})
