import { defineOperation } from 'accepted'
import { pino } from 'pino'
import t from 'tap'
import { openJobs } from '../../support/jobs.ts'
import { handlersFor, Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

t.test('perform, settle and the log of the job get the traceparent of the request', async (t) => {
  const jobs = await openJobs(t, [say])
  const requestTraceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  const traced = await jobs.add(say, { word: 'x' }, { traceparent: requestTraceparent })
  const untraced = await jobs.add(say, { word: 'x' })
  const calls: [string, string, string | undefined][] = []
  const lines: { msg: string; job: string; traceparent?: string }[] = []
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) })
  await jobs.work(
    handlersFor(say, {
      perform: async ({ id, traceparent, log }) => {
        calls.push(['perform', id, traceparent])
        log.info('said')
      },
      settle: async (_trx, batch) => {
        for (const { id, traceparent } of batch) calls.push(['settle', id, traceparent])
      },
    }),
    { log },
  )
  for (const id of [traced, untraced]) {
    await jobs.ended(id)
    const expected = id === traced ? requestTraceparent : undefined
    t.same(
      calls.filter(([_handler, jobId]) => jobId === id),
      [
        ['perform', id, expected],
        ['settle', id, expected],
      ],
    )
    t.same(
      lines.filter(({ msg, job }) => msg === 'said' && job === id).map(({ traceparent }) => traceparent),
      [expected],
    )
  }
})
