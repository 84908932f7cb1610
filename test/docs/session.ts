import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join, sep } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { createDatabase } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import { until } from '../support/until.ts'
import type { Block, Page } from './markdown.ts'
import { createMeanings, type Meanings, unaligned } from './output.ts'
import { createProject, type Project, projectIn } from './project.ts'

/** Maps each port that the pages show to the free port that the test uses instead. */
type Ports = ReadonlyMap<string, string>

/** A program may take 20 s to stop: GRACE_SECONDS and `exitGraceSeconds`. The tests wait 10 s longer. */
const stopTimeoutMs = 30_000

/** Package managers download a hundred packages, and the tests of an app create a Postgres. */
const longTimeoutMs = 300_000

interface Session {
  t: Test
  project: Project
  ports: Ports
  meanings: Meanings
  /** Runs the shell commands of the page, like the second terminal of a reader. */
  shell: Shell
  /** The programs that run, the newest last. */
  programs: Program[]
  /** The environment of the programs. */
  env: NodeJS.ProcessEnv
  /** The role of the statements at the prompt `=>`. */
  role: string | undefined
  mayInstall: boolean
}

interface PageOptions {
  /** Whether a program of the page starts a Postgres. If not, there is an empty database. */
  startsPostgres: boolean
  /** Prepares the database before the page is played. */
  prepare?: ((t: Test, databaseUrl: string) => Promise<void>) | undefined
  /** The role of the statements at the prompt `=>`. Default: that of the database URL, as at the prompt `=#`. */
  role?: string
  /** An empty directory of a new user, who may install packages. Default: a project with links to the checkout. */
  directory?: string
  /** Added to the environment of the commands and programs. */
  env?: NodeJS.ProcessEnv
}

/**
 * Does what a page says, from top to bottom: writes its files, starts its programs and runs its commands. Compares
 * their output with the output shown. Uses free ports instead of the ports shown.
 */
export async function playPage(t: Test, page: Page, options: PageOptions): Promise<void> {
  const databaseUrl = options.startsPostgres ? undefined : await createDatabase(t, { empty: true })
  if (databaseUrl) await options.prepare?.(t, databaseUrl)
  const project = options.directory === undefined ? await createProject(t) : projectIn(options.directory)
  const ports = new Map<string, string>()
  for (const shown of ['3000', '3001', '8080']) ports.set(shown, String(await freePort()))
  // Unlike in a terminal, curl would show its progress here, because its output is a pipe.
  const curlHome = await mkdtemp(join(tmpdir(), 'accepted-curl-'))
  t.teardown(() => rm(curlHome, { recursive: true }))
  await writeFile(join(curlHome, '.curlrc'), 'silent\nshow-error\n')
  const terminal = { ...withoutTestRunner(process.env), ...options.env, CURL_HOME: curlHome }
  const session: Session = {
    t,
    project,
    ports,
    meanings: createMeanings(databaseUrl ? { 'postgres://…': databaseUrl } : {}),
    shell: openShell(t, project.directory, terminal),
    programs: [],
    env: {
      ...terminal,
      PORT: ports.get('3000'),
      WORKER_PORT: ports.get('3001'),
      ...(databaseUrl && { DATABASE_URL: databaseUrl }),
    },
    role: options.role,
    mayInstall: options.directory !== undefined,
  }
  t.teardown(() => stopAll(session))
  for (const block of page.blocks) {
    if (!(await play(session, block))) return t.comment('The rest of the page was skipped')
  }
  await stopAll(session)
}

/** Does what a block says. Returns whether the output is as shown. */
async function play(session: Session, block: Block): Promise<boolean> {
  const { t, project, ports } = session
  const text = withPorts(block.text, ports)
  switch (block.marker) {
    case 'file':
      await project.write(block.file as string, text)
      return true
    case 'run':
      for (const step of block.language === 'sh' ? [{ prompt: '$', command: text }] : parseConsole(text)) {
        if (!(await runStep(session, block, step))) return false
      }
      return true
    case 'restart':
      await stopAll(session)
      return startProgram(session, block, text)
    case 'start':
      return startProgram(session, block, text)
    case 'output': {
      const program = session.programs.at(-1)
      if (!program) throw new Error(`${block.place}: no block before this one starts a program`)
      return awaitOutput(t, block, text, () => session.meanings.learn(text, program.printedSinceStart()), program)
    }
  }
  return true
}

interface Step {
  prompt: string
  command: string
  /** The output shown. If undefined, any output is right. */
  shown?: string
}

/**
 * Splits a terminal session into commands with their outputs. The prompt is `$` in the shell, and `=>` in psql, or `=#`
 * for a superuser.
 */
function parseConsole(text: string): Step[] {
  const steps: Required<Step>[] = []
  let isOpen = false
  for (const line of text.split('\n').slice(0, -1)) {
    const [, prompt, begun] = line.match(/^(\$|=>|=#) (.*)$/) ?? []
    const step = steps.at(-1)
    if (prompt && begun !== undefined) {
      steps.push({ prompt, command: begun, shown: '' })
    } else if (!step) {
      throw new Error(`A terminal session must begin with the prompt $, => or =#, not with: ${line}`)
    } else if (isOpen) {
      step.command += `\n${line}`
    } else {
      step.shown += `${line}\n`
      continue
    }
    const { prompt: asked, command } = steps.at(-1) as Step
    isOpen = asked === '$' ? command.endsWith('\\') : !isComplete(command)
  }
  return steps
}

/** Returns whether a statement ends here. The body of a function contains semicolons between `$$` and `$$`. */
const isComplete = (statement: string) => /;\s*$/.test(statement) && statement.split('$$').length % 2 === 1

const acts =
  /\baccepted\.(enqueue|enqueue_batch|cancel|retry|redrive|pause|resume|reschedule|prioritize|forget|expire|\w+_schedule)\(/

/** Returns whether a command only reads. It may run too early, so the test repeats it, as a reader would. */
const isRead = (command: string) =>
  (/^(select|accepted jobs list)\b/.test(command) && !acts.test(command)) ||
  (/^curl\b/.test(command) && !/ (-d|-X) /.test(command))

/** The pages call the installed command. In a project with links to the checkout, its sources run instead. */
const toCommand = ({ meanings, mayInstall }: Session, command: string): string =>
  mayInstall
    ? meanings.fill(command)
    : meanings.fill(command).replaceAll('npx accepted ', 'npm run --silent accepted -- ')

async function runStep(session: Session, block: Block, { prompt, command, shown }: Step): Promise<boolean> {
  const { t, meanings, shell } = session
  const filled = toCommand(session, command)
  if (!session.mayInstall && /\bnpm (ci|i|install)\b/.test(filled))
    throw new Error(`${block.place}: '${filled}' would change the checkout; mark the block as an illustration`)
  const isSql = prompt !== '$'
  const role = prompt === '=>' ? session.role : undefined
  const execute = () => (isSql ? query(session, filled, role) : shell.run(filled))
  const expected = isSql && shown !== undefined ? unaligned(shown) : shown
  let found = await execute()
  const matches = () => (expected === undefined ? found.code === 0 : meanings.learn(expected, found.output))
  const isMatch =
    matches() ||
    (isRead(command) &&
      (await until(async () => {
        found = await execute()
        return matches()
      }).catch(() => false)))
  return t.ok(isMatch, `${block.place}: ${command}`, { expected, found: found.output, code: found.code })
}

/** Runs statements. Returns the last result as psql would show it, unaligned, or the error. */
async function query({ meanings }: Session, statement: string, role?: string): Promise<Result> {
  const url = new URL(meanings.fill('postgres://…'))
  url.searchParams.set('options', `-c timezone=UTC${role ? ` -c role=${role}` : ''}`)
  const client = new pg.Client({ connectionString: url.href, types: { getTypeParser: () => String } })
  await client.connect()
  try {
    const results = await client.query({ text: statement, rowMode: 'array' })
    return { output: [results].flat().map(showResult).at(-1) ?? '', code: 0 }
  } catch (error) {
    const { message, hint } = error as { message: string; hint?: string }
    return { output: [`ERROR:  ${message}`, ...(hint ? [`HINT:  ${hint}`] : [])].join('\n'), code: 1 }
  } finally {
    await client.end()
  }
}

interface Result {
  output: string
  code: number
}

function showResult({ command, rowCount, fields, rows }: pg.QueryArrayResult): string {
  if (fields.length === 0) return [command, ...(command === 'INSERT' ? [0] : []), rowCount ?? []].flat().join(' ')
  const lines = [fields.map(({ name }) => name), ...rows.map((row) => row.map((cell) => cell ?? ''))]
  return lines.map((cells) => cells.join('|')).join('\n')
}

interface Shell {
  run(command: string): Promise<Result>
}

/** Opens a shell that keeps its variables between commands. */
function openShell(t: Test, cwd: string, env: NodeJS.ProcessEnv): Shell {
  const bash = spawn('bash', ['--noprofile', '--norc'], { cwd, env })
  t.teardown(() => bash.kill('SIGKILL'))
  let printed = ''
  bash.stdout.on('data', (chunk) => {
    printed += chunk
  })
  let count = 0
  return {
    async run(command) {
      const end = `end of command ${++count}: `
      printed = ''
      bash.stdin.write(`{\n${command}\n} </dev/null 2>&1\nprintf '\\n%s\\n' "${end}$?"\n`)
      const [, output = '', code] = await until(
        () => printed.match(new RegExp(`^([\\s\\S]*)\n${end}(\\d+)\n$`)) ?? undefined,
        /\b(install|add|init|check|test)\b/.test(command) ? longTimeoutMs : undefined,
      ).catch(() => {
        throw new Error(`The command did not end: ${command}\n${printed}`)
      })
      return { output, code: Number(code) }
    },
  }
}

interface Program {
  command: string
  process: ChildProcess
  closed: Promise<unknown>
  printed(): string
  /** Returns what the program has printed since {@link markStarted}. */
  printedSinceStart(): string
  markStarted(): void
}

async function startProgram(session: Session, block: Block, text: string): Promise<boolean> {
  const { t, meanings, project, env, ports } = session
  const [step, ...more] = block.language === 'sh' ? [{ command: text, shown: '' }] : parseConsole(text)
  if (!step || more.length > 0)
    throw new Error(`${block.place}: a block that starts a program must contain exactly one command`)
  const command = toCommand(session, step.command)
  // A program that has started goes on printing, for example a line for each request.
  const shown = step.shown && `${step.shown.trimEnd()}\n…`
  const running = session.programs.find((program) => program.command === step.command)
  // A later page that starts the same program goes on with the one that runs.
  if (running) return awaitOutput(t, block, shown ?? '', () => meanings.learn(shown ?? '…', running.printed()), running)
  // The program has its own process group, so that a signal reaches all its processes, as Ctrl-C does.
  const child = spawn('bash', ['-c', command], { cwd: project.directory, env, detached: true })
  let printed = ''
  let startLength = 0
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      printed += chunk
    })
  }
  const program: Program = {
    command: step.command,
    process: child,
    closed: once(child, 'close'),
    printed: () => printed,
    printedSinceStart: () => printed.slice(startLength),
    markStarted() {
      startLength = printed.length
    },
  }
  session.programs.push(program)
  const isReady = shown
    ? () => meanings.learn(shown, printed)
    : async () => (await Promise.all(readyUrlsOf(command, ports).map(isUp))).every(Boolean)
  const isStarted = await awaitOutput(t, block, shown ?? '', isReady, program)
  program.markStarted()
  return isStarted
}

/** Returns URLs that answer 200 once the programs that a command starts are ready. */
function readyUrlsOf(command: string, ports: Ports): string[] {
  const [api, worker] = ['3000', '3001'].map((port) => `http://127.0.0.1:${ports.get(port)}/health/ready`) as [
    string,
    string,
  ]
  if (/\bnpm start\b| dev\b/.test(command)) return [api, worker]
  // An app of one's own has no health routes unless it asks for them.
  if (/\bserver\.ts\b/.test(command)) return [new URL('/jobs', api).href]
  return [/\bworker\b/.test(command) ? worker : api]
}

const isUp = async (url: string) => (await fetch(url).catch(() => undefined))?.ok ?? false

async function awaitOutput(
  t: Test,
  { place }: Block,
  expected: string,
  isThere: () => boolean | Promise<boolean>,
  { command, process: child, printed }: Program,
): Promise<boolean> {
  const isMatch = await until(() => {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('The program ended')
    return isThere()
  }).catch(() => false)
  return t.ok(isMatch, `${place}: ${command}`, { expected, found: printed() })
}

/** Stops the programs as Ctrl-C does, the newest first. */
async function stopAll({ programs }: Session): Promise<void> {
  for (;;) {
    const program = programs.pop()
    if (!program) return
    const { process: child, closed } = program
    const signal = (name: NodeJS.Signals) => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-(child.pid as number), name)
    }
    signal('SIGINT')
    const timer = setTimeout(signal, stopTimeoutMs, 'SIGKILL')
    await closed
    clearTimeout(timer)
  }
}

/** Replaces the ports in a text, but not other numbers with the same digits. */
const withPorts = (text: string, ports: Ports): string =>
  text.replace(
    /((?:localhost|127\.0\.0\.1):|\blisten\(|\bport: |'127\.0\.0\.1', )(3000|3001|8080)\b/g,
    (_, before, port) => before + ports.get(port),
  )

/**
 * Returns the environment of a reader's terminal, without the variables that npm and the test runner have added. It keeps
 * NODE_OPTIONS, with which processes load the bundles of support/bundles.ts.
 */
function withoutTestRunner(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const added = /^(npm_|tap|NODE_V8|INIT_CWD$|DATABASE_|PORT$|WORKER_PORT$|LOG_LEVEL$|DATA_DIR$)/i
  const kept = Object.entries(env).filter(([name]) => !added.test(name))
  const path = (env.PATH ?? '').split(delimiter).filter((entry) => !entry.endsWith(`node_modules${sep}.bin`))
  return { ...Object.fromEntries(kept), PATH: path.join(delimiter), npm_config_update_notifier: 'false' }
}
