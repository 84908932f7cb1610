import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { until } from '../support/until.ts'
import { metric, startApp } from './app/start.ts'

const isInstalled = spawnSync('curl', ['--version']).status === 0
const skip = isInstalled ? false : 'curl is not installed'

interface Curl {
  /** Returns the output so far. */
  output(): string
  /** Resolves to the exit code. */
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

  /** Runs curl until it exits. */
  const run = async (...args: string[]) => {
    const { ended, output } = curl(t, ...args)
    return { code: await ended, output: output() }
  }
  // Older versions of curl do not have the option --json.
  const json = (body: object) => ['-H', 'Content-Type: application/json', '-d', JSON.stringify(body)]
  const submit = async (path: string, body: object) => JSON.parse((await run(app.url + path, ...json(body))).output)

  t.test('curl -i shows the headers that lead to the job', async (t) => {
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

  t.test('a request from curl --http2 is served over HTTP/1.1', async (t) => {
    const { code, output } = await run('--http2', '-i', `${app.url}/documents`, ...json({ text: 'A letter' }))
    t.equal(code, 0)
    t.match(output, /^HTTP\/1\.1 202 /)
    t.match(await run('--http2', '-I', `${app.url}/health/live`), { code: 0, output: /^HTTP\/1\.1 200 / })
  })

  t.test('curl -I gets the headers of a job without waiting', async (t) => {
    const { id } = await submit('/renderings', { name: 'head' })
    const monitor = await run('-I', '-H', 'Prefer: wait=55', `${app.url}/jobs/${id}`)
    t.match(monitor.output, /^HTTP\/1\.1 200 [\s\S]*\r\nretry-after: \d+\r\n/)
    const result = await run('-I', '-H', 'Prefer: wait=55', `${app.url}/jobs/${id}/result`)
    t.match(result.output, /^HTTP\/1\.1 202 [\s\S]*\r\nretry-after: \d+\r\n/)
    const events = await run('-I', `${app.url}/jobs/${id}/events`)
    t.match(events.output, /^HTTP\/1\.1 200 /)
    await app.steer('head', { ending: 'succeed' })
  })

  t.test('curl -L waits for the result and follows the redirect to the resource', async (t) => {
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

  t.test('after a POST, curl -L follows the 303 with GET', async (t) => {
    const prefer = ['-H', 'Prefer: wait=55, return=representation']
    const { code, output } = await run('-L', `${app.url}/documents`, ...prefer, ...json({ text: 'A letter' }))
    t.equal(code, 0)
    t.match(JSON.parse(output), { text: 'A letter', state: 'ready' })
  })

  t.test('curl -f exits with an error if the job failed', async (t) => {
    const { links } = await submit('/checks', { text: 'There is a comma too many' })
    const waiting = ['-H', 'Prefer: wait=55', links.result]
    t.match(await run('-f', ...waiting), { code: 22, output: '422' })
    const { code, output } = await run(...waiting)
    t.equal(code, 0)
    t.match(JSON.parse(output), { error: { code: 'text-refused' }, job: { status: 'failed' } })
  })

  t.test('curl -N prints the events of a job, and exits after the job has ended', async (t) => {
    const { links } = await submit('/renderings', { name: 'followed' })
    const streaming = curl(t, '-N', links.events)
    await until(() => streaming.output().includes('"status":"running"'))
    await app.steer('followed', { percent: 50, message: 'half way' })
    await until(() => streaming.output().includes('half way'))
    t.notMatch(streaming.output(), 'succeeded')
    await app.steer('followed', { ending: 'succeed' })
    t.equal(await streaming.ended, 0)
    const [retry, ...events] = streaming.output().trim().split('\n\n')
    t.equal(retry, 'retry: 3000')
    t.match(events.at(-1), /^event: status\nid: \d+\ndata: \{.*"status":"succeeded".*\}$/)
    t.ok(events.some((event) => /^event: progress\nid: \d+\ndata: \{.*"percentComplete":50.*\}$/.test(event)))
  })

  t.test('if curl is interrupted, the API closes its stream', async (t) => {
    const { links } = await submit('/renderings', { name: 'interrupted' })
    const streaming = curl(t, '-N', links.events)
    await until(() => streaming.output().includes('"status":"running"'))
    t.equal(await metric(app, 'accepted_event_streams'), 1)
    streaming.kill()
    await streaming.ended
    await until(async () => (await metric(app, 'accepted_event_streams')) === 0)
    t.equal(await metric(app, 'accepted_watched_jobs'), 0)
    await app.steer('interrupted', { ending: 'succeed' })
  })
})
