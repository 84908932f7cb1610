/** Attacks the API with sqlmap and slowhttptest: `npm run test:security`. */
import { execFile } from 'node:child_process'
import { dirname, join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { startTarget, type Target } from '../hostile/target.ts'
import { hasProgram, installPackage } from '../support/debian-package.ts'
import { todosConfig } from '../support/program.ts'
import { runSlowClients, slowModes } from './slow-clients.ts'
import { type AttackedRequest, attackedRequests, relayFirstEvent, runSqlmap, startInjectable } from './sqlmap.ts'
import { compareStrangerTimes } from './stranger-times.ts'

const programs = ['sqlmap', 'slowhttptest']
/** sqlmap mostly waits for answers. */
const maxParallelRuns = 3
const sqlmapTimeoutMs = 600_000

const usage = `Usage: npm run test:security -- [options]

Starts a Postgres, the API and the worker of the todos example on the loopback address, with API keys. Attacks every
kind of parameter of the API with sqlmap, and its connections with slowhttptest. Meanwhile, a bystander posts. Also
compares how long requests take for a large job of another principal and for a job that never existed. Fails if sqlmap
finds an injection, if the API answers 5xx but 503, if a request of the bystander is not accepted, or if these times
differ by more than 10 %.

Both programs are Debian packages. If they are missing, the script installs them, which needs root and apt-get.

  --quick        fewer tests of sqlmap, and shorter attacks of slowhttptest: about a minute instead of six
  --help         print this help`

/** Installs what is missing. Returns why that is not possible. */
function installPrograms(): string | undefined {
  const missing = programs.filter((name) => !hasProgram(name))
  if (missing.length === 0) return undefined
  if (!hasProgram('apt-get')) return `${missing.join(' and ')} missing, and there is no apt-get to install them`
  if (process.getuid?.() !== 0) return `${missing.join(' and ')} missing, and only root can install them with apt-get`
  for (const name of missing) installPackage(name, () => hasProgram(name))
  return undefined
}

/** Creates a key with the command line. Returns the header that sends it. */
async function addKey({ databaseUrl }: Target, name: string, ...options: string[]): Promise<string> {
  const main = join(import.meta.dirname, '../../src/cli/main.ts')
  const args = ['--conditions=accepted-source', main, 'keys', 'add', name, ...options, '--json']
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    env: { ...process.env, DATABASE_URL: databaseUrl, LOG_LEVEL: 'warn' },
  })
  return `Bearer ${JSON.parse(stdout).key}`
}

/** Creates a job and waits for its end. Returns its id. */
async function submit(port: number, authorization: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/todos`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json', prefer: 'wait=20, return=representation' },
    body: JSON.stringify({ title: 'Attacked' }),
    redirect: 'manual',
  })
  const location = response.headers.get('content-location') ?? response.headers.get('operation-location') ?? ''
  return location.split('/').at(-1) as string
}

interface Credentials {
  client: string
  admin: string
}

async function attackWithSqlmap(target: Target, { client, admin }: Credentials, isQuick: boolean): Promise<string[]> {
  const id = await submit(target.api.port, client)
  const relay = await relayFirstEvent(target.api.port)
  const injectable = await startInjectable(target)
  const shared = { isQuick, directory: target.directory, timeoutMs: sqlmapTimeoutMs }
  const findings: string[] = []
  const attack = async (request: AttackedRequest) => {
    const { what, as, isStream } = request
    const authorization = as === 'admin' ? admin : client
    const { safe, marked, seconds, ...result } = await runSqlmap(request, {
      ...shared,
      origin: isStream ? relay.origin : `http://127.0.0.1:${target.api.port}`,
      ...(as !== 'nobody' && { authorization }),
    })
    report(`${what.padEnd(36)}${safe} of ${marked} parameters safe ${Math.round(seconds)} s`, result.findings)
    findings.push(...result.findings)
  }
  try {
    const control = { what: 'control', path: `/jobs/${id}*` }
    const { findings: found } = await runSqlmap(control, { ...shared, origin: injectable.origin })
    const isFound = found.some((finding) => finding.startsWith('sqlmap: Parameter'))
    console.log(`${'an injectable server (control)'.padEnd(36)}${isFound ? 'found' : 'not found'}`)
    if (!isFound) findings.push('sqlmap did not find the parameter that is injectable')
    const queue = attackedRequests(id)
    const run = async () => {
      for (let request = queue.shift(); request; request = queue.shift()) await attack(request)
    }
    await Promise.all(Array.from({ length: maxParallelRuns }, run))
  } finally {
    relay.close()
    injectable.close()
  }
  return findings
}

async function attackSlowly(target: Target, authorization: string, isQuick: boolean): Promise<string[]> {
  const findings: string[] = []
  for (const mode of slowModes) {
    const options = { port: target.api.port, authorization, seconds: isQuick ? 6 : 30 }
    const { answered, refused, p50Ms, p99Ms, maxMs, ...result } = await runSlowClients(mode, options)
    const latencies = [p50Ms, p99Ms, maxMs].map((ms) => Math.round(ms)).join(' / ')
    report(
      `${mode.name.padEnd(36)}${answered} requests of the bystander, ${refused} refused, p50 / p99 / max ${latencies} ms`,
      result.findings,
    )
    findings.push(...result.findings)
  }
  return findings
}

async function compareTimes(target: Target, isQuick: boolean): Promise<string[]> {
  const authorization = await addKey(target, 'stranger')
  const results = await compareStrangerTimes(target, { authorization, requests: isQuick ? 100 : 500 })
  for (const { what, foreignMs, absentMs, findings } of results) {
    const times = `foreign ${foreignMs.toFixed(2)} ms, absent ${absentMs.toFixed(2)} ms`
    report(`${what.padEnd(36)}${times}, ratio ${(foreignMs / absentMs).toFixed(3)}`, findings)
  }
  return results.flatMap(({ findings }) => findings)
}

function report(line: string, findings: readonly string[]): void {
  console.log([line, ...findings.map((finding) => `  FAIL ${finding}`)].join('\n'))
}

/** What must hold after all attacks. */
async function checkHealth({ api, worker, query }: Target): Promise<string[]> {
  const ended = [api.ended(), worker.ended()].filter((reason) => reason !== undefined)
  if (ended.length > 0) return ended
  const { status } = await fetch(`http://127.0.0.1:${api.port}/health/ready`)
  const [{ tables }] = await query(`select count(*)::int as tables from pg_tables where schemaname = 'accepted'`)
  return [
    ...(status === 200 ? [] : [`/health/ready answers ${status}`]),
    ...(tables > 0 ? [] : ['The tables are gone']),
  ]
}

async function run(isQuick: boolean): Promise<boolean> {
  const target = await startTarget({
    config: todosConfig,
    appMigrations: join(dirname(todosConfig), 'migrations'),
    // Limits would hide the code behind them from sqlmap.
    env: { RATE_LIMIT: '0', LOG_LEVEL: 'warn' },
  })
  const findings: string[] = []
  try {
    const client = await addKey(target, 'client')
    const admin = await addKey(target, 'admin', '--scopes', 'admin')
    findings.push(...(await compareTimes(target, isQuick)))
    findings.push(...(await attackWithSqlmap(target, { client, admin }, isQuick)))
    findings.push(...(await attackSlowly(target, client, isQuick)))
    const afterwards = await checkHealth(target)
    report(`${'afterwards'.padEnd(36)}${afterwards.length === 0 ? 'API, worker and tables are well' : ''}`, afterwards)
    findings.push(...afterwards)
  } catch (error) {
    findings.push(String(error))
    throw error
  } finally {
    await target.close({ keepLogs: findings.length > 0 })
    if (findings.length > 0) console.error(`Failed. Logs: ${target.directory}`)
  }
  return findings.length === 0
}

function readArguments() {
  try {
    return parseArgs({
      options: { quick: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
    }).values
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nTo see all options, run: npm run test:security -- --help`)
    process.exit(2)
  }
}

const options = readArguments()
const reason = options.help ? undefined : installPrograms()
if (options.help) console.log(usage)
else if (reason) console.log(`Skipped: ${reason}.`)
else process.exitCode = (await run(options.quick)) ? 0 : 1
