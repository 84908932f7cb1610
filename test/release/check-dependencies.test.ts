import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { findLicenseViolations, isAllowed } from '../../release/check-dependencies.ts'
import { listProductionPackages, readLockfile } from '../../release/production-packages.ts'

const program = join(import.meta.dirname, '../../release/check-dependencies.ts')

/** Runs the check with a registry that answers requests for advisories. */
async function check(t: Test, onRequest: RequestListener) {
  const registry = createServer(onRequest).listen(0, '127.0.0.1')
  await once(registry, 'listening')
  t.teardown(() => {
    registry.close()
    registry.closeAllConnections()
  })
  const url = `http://127.0.0.1:${(registry.address() as AddressInfo).port}/`
  const child = spawn(process.execPath, [program], { env: { ...process.env, npm_config_registry: url } })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code, stdout, stderr }
}

/** Answers with advisories about these packages. */
const advise =
  (severities: Record<string, string>): RequestListener =>
  (request, response) => {
    const advisory = (name: string, severity: string) => ({
      ...{
        id: 1,
        url: `https://advisories.test/${name}`,
        title: `A flaw in ${name}`,
        severity,
        vulnerable_versions: '*',
      },
      ...{ cwe: [], cvss: { score: 0, vectorString: null } },
    })
    if (!request.url?.endsWith('/advisories/bulk')) return response.writeHead(404).end('{}')
    const advisories = Object.entries(severities).map(([name, severity]) => [name, [advisory(name, severity)]])
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(Object.fromEntries(advisories)))
  }

t.test('serious advisories about production packages fail the check', async (t) => {
  // A development dependency needs pg too.
  const severities = { pg: 'high', fastify: 'critical', uuid: 'moderate', tap: 'critical' }
  const { code, stdout, stderr } = await check(t, advise(severities))
  t.equal(code, 1)
  t.match(stdout, 'Advisories of severity high or critical: 2')
  t.same(stderr.trim().split('\n').sort(), [
    'Advisory: fastify: A flaw in fastify (critical, https://advisories.test/fastify)',
    'Advisory: pg: A flaw in pg (high, https://advisories.test/pg)',
  ])
})

t.test('other advisories do not fail the check', async (t) => {
  const { code, stdout, stderr } = await check(t, advise({ uuid: 'moderate', tap: 'critical' }))
  t.equal(code, 0)
  t.match(stdout, /^Licenses of \d+ production packages: MIT \d+, .*\nAdvisories of severity high or critical: 0\n$/)
  t.equal(stderr, '')
})

t.test('a registry that does not answer does not fail the check, and the check says so', async (t) => {
  for (const answer of [405, 500, 'break'] as const) {
    const { code, stderr } = await check(t, (request, response) => {
      if (answer === 'break') request.socket.destroy()
      else response.writeHead(answer).end()
    })
    t.equal(code, 0)
    t.match(stderr, /^Advisories not checked: .+\n$/)
    t.notMatch(stderr, '127.0.0.1:')
  }
})

t.test('a license is allowed if a user may choose permissive licenses only', async (t) => {
  for (const license of ['MIT', '(MIT OR CC0-1.0)', 'GPL-3.0-only OR MIT', 'MIT AND ISC', 'Apache-2.0']) {
    t.ok(isAllowed(license), license)
  }
  const others = ['', 'GPL-3.0-only', 'AGPL-3.0-only', 'MIT AND GPL-3.0-only', 'UNLICENSED', 'SEE LICENSE IN LICENSE']
  for (const license of [
    ...others,
    '(GPL-3.0-only OR MIT) AND AGPL-3.0-only',
    '(AGPL-3.0-only OR GPL-3.0-only) AND (ISC OR MIT)',
    'GPL-2.0-only OR GPL-3.0-only',
  ]) {
    t.notOk(isAllowed(license), license)
  }
  t.notOk(isAllowed(undefined))
})

t.test('a production package with another license, or without one, is named', async (t) => {
  const [first, second, ...others] = listProductionPackages(readLockfile())
  if (!first || !second) return t.fail()
  const { license: _, ...withoutLicense } = second
  t.same(findLicenseViolations([{ ...first, license: 'AGPL-3.0-only' }, withoutLicense, ...others]), [
    `${first.name}@${first.version} has the license AGPL-3.0-only`,
    `${second.name}@${second.version} has no license`,
  ])
})
