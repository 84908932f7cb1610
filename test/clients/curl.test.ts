import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { until } from '../support/until.ts'
import { metric, startApp } from './app/start.ts'

const isThere = spawnSync('curl', ['--version']).status === 0
const skip = isThere ? false : 'there is no curl on the path'

interface Curl {
  /** What it has printed so far. */
  output(): string
  /** Waits for the end, and answers the exit code. */
  ended: Promise<number>
  kill(): void
}

function curl(t: Test, ...args: string[]): Curl {
  const child = spawn('curl', ['-sS', '--max-time', '60', ...args])
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
  }
  const ended = once(child, 'close').then(([code]) => code as number)
  t.teardown(() => child.kill())
  return { output: () => text, ended, kill: () => child.kill() }
}

t.test('curl', { skip }, async (t) => {
  const app = await startApp(t)

  /** Runs curl to its end. */
  const run = async (...args: string[]) => {
    const { ended, output } = curl(t, ...args)
    return { code: await ended, output: output() }
  }
  // As long as there are versions without --json.
  const json = (body: object) => ['-H', 'Content-Type: application/json', '-d', JSON.stringify(body)]
  const submit = async (path: string, body: object) => JSON.parse((await run(app.url + path, ...json(body))).output)

  t.test('-i shows where to go on', async (t) => {
    const { code, output } = await run('-i', `${app.url}/documents`, ...json({ text: 'A letter' }))
    const [head = '', body = ''] = output.split('\r\n\r\n')
    const { id } = JSON.parse(body)
    t.equal(code, 0)
    const fields = head.toLowerCase().split('\r\n')
    t.match(fields[0], 'http/1.1 202')
    t.has(
      new Set(fields),
      new Set([
        `location: ${app.url}/jobs/${id}/result`,
        `operation-location: ${app.url}/jobs/${id}`,
        `content-location: ${app.url}/jobs/${id}`,
        'retry-after: 1',
        'cache-control: no-store',
      ]),
    )
  })

  t.test('--http2 offers another protocol, and is served', async (t) => {
    const { code, output } = await run('--http2', '-i', `${app.url}/documents`, ...json({ text: 'A letter' }))
    t.equal(code, 0)
    t.match(output, /^HTTP\/1\.1 202 /)
    t.match(await run('--http2', '-I', `${app.url}/health/live`), { code: 0, output: /^HTTP\/1\.1 200 / })
  })

  t.test('-I asks for the headers of a job without waiting for it', async (t) => {
    const { id } = await submit('/renderings', { name: 'head' })
    const monitor = await run('-I', '-H', 'Prefer: wait=55', `${app.url}/jobs/${id}`)
    t.match(monitor.output, /^HTTP\/1\.1 200 [\s\S]*\r\nretry-after: \d+\r\n/)
    const result = await run('-I', '-H', 'Prefer: wait=55', `${app.url}/jobs/${id}/result`)
    t.match(result.output, /^HTTP\/1\.1 202 [\s\S]*\r\nretry-after: \d+\r\n/)
    const events = await run('-I', `${app.url}/jobs/${id}/events`)
    t.match(events.output, /^HTTP\/1\.1 200 /)
    await app.steer('head', { ending: 'succeed' })
  })

  t.test('-L on the result that it waits for lands on the resource', async (t) => {
    const { id, links } = await submit('/documents', { text: 'A letter' })
    const { code, output } = await run(
      '-L',
      '-H',
      'Prefer: wait=55',
      links.result,
      '-w',
      '\n%{num_redirects} %{url_effective}',
    )
    const [document = '', last] = output.split('\n')
    t.equal(code, 0)
    t.same(JSON.parse(document), { id, text: 'A letter', state: 'ready' })
    t.equal(last, `1 ${app.url}/documents/${id}`)
  })

  t.test('-L with data becomes a GET at the 303', async (t) => {
    const prefer = ['-H', 'Prefer: wait=55, return=representation']
    const { code, output } = await run('-L', `${app.url}/documents`, ...prefer, ...json({ text: 'A letter' }))
    t.equal(code, 0)
    t.match(JSON.parse(output), { text: 'A letter', state: 'ready' })
  })

  t.test('-f fails with a job that failed', async (t) => {
    const { links } = await submit('/checks', { text: 'There is a comma too many' })
    const waiting = ['-H', 'Prefer: wait=55', links.result]
    t.match(await run('-f', ...waiting), { code: 22, output: '422' })
    const { code, output } = await run(...waiting)
    t.equal(code, 0)
    t.match(JSON.parse(output), { error: { code: 'text-refused' }, job: { status: 'failed' } })
  })

  t.test('-N follows the events of a job, and ends with it', async (t) => {
    const { links } = await submit('/renderings', { name: 'followed' })
    const following = curl(t, '-N', links.events)
    await until(() => following.output().includes('"status":"running"'))
    await app.steer('followed', { percent: 50, message: 'half way' })
    await until(() => following.output().includes('half way'))
    t.notMatch(following.output(), 'succeeded')
    await app.steer('followed', { ending: 'succeed' })
    t.equal(await following.ended, 0)
    const [retry, ...events] = following.output().trim().split('\n\n')
    t.equal(retry, 'retry: 3000')
    t.match(events.at(-1), /^event: status\nid: \d+\ndata: \{.*"status":"succeeded".*\}$/)
    t.ok(events.some((event) => /^event: progress\nid: \d+\ndata: \{.*"percentComplete":50.*\}$/.test(event)))
  })

  t.test('one that is interrupted leaves no stream behind', async (t) => {
    const { links } = await submit('/renderings', { name: 'interrupted' })
    const following = curl(t, '-N', links.events)
    await until(() => following.output().includes('"status":"running"'))
    t.equal(await metric(app, 'accepted_event_streams'), 1)
    following.kill()
    await following.ended
    await until(async () => (await metric(app, 'accepted_event_streams')) === 0)
    t.equal(await metric(app, 'accepted_watched_jobs'), 0)
    await app.steer('interrupted', { ending: 'succeed' })
  })
})
