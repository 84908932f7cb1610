import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import type { Claim } from '../../src/queue/claim.ts'
import { Claims } from '../../src/queue/claims.ts'
import { sendHeartbeats } from '../../src/queue/heartbeat.ts'
import { beginTransaction } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'

const Word = Type.Object({ word: Type.String() })
const say = defineOperation({ name: 'word.say', input: Word })

t.test('a locked queue row does not delay the heartbeats of other jobs', async (t) => {
  const other = defineOperation({ name: 'word.other', input: Word })
  const jobs = await openJobs(t, [say, other])
  const active: { name: string; claims: Claim[] }[] = []
  for (const one of [say, other]) {
    await jobs.add(one, { word: 'x' })
    active.push({ name: one.name, claims: await new Claims(jobs.database, jobs.boss, one).claim(1) })
  }
  await jobs.query("update accepted_queue.job set heartbeat_on = now() - interval '1 minute'")
  await beginTransaction(t, jobs.database, "select from accepted_queue.job where name = 'word.say' for update")
  await sendHeartbeats(jobs.database, active)
  t.same(
    await jobs.query(`
      select name, heartbeat_on > now() - interval '30 seconds' as "isRecent" from accepted_queue.job
      where state = 'active' order by name`),
    [
      { name: 'word.other', isRecent: true },
      { name: 'word.say', isRecent: false },
    ],
  )
})
