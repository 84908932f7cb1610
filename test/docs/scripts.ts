import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { codeOf, type Page, root } from './markdown.ts'

type Scripts = Readonly<Record<string, string>>

const scriptsOf = (file: string): Scripts => JSON.parse(readFileSync(join(root, file), 'utf8')).scripts

/** The npm scripts of package.json. */
export const scripts = scriptsOf('package.json')

/** The npm scripts of an app that `accepted init` lays out. */
export const scriptsOfNewApp = scriptsOf('assets/init/_package.json')

/** A command on a page that runs an npm script. */
export interface ScriptCall {
  /** The command as the page shows it. */
  command: string
  script: string
  /** The arguments after `--`. */
  args: readonly string[]
}

/** Finds the commands `npm run <script>`, `npm start` and `npm test` in the code of a page. */
export const scriptCallsOf = (page: Page): ScriptCall[] =>
  codeOf(page).flatMap((code) =>
    [...code.matchAll(/\bnpm (?:run (?:-[\w-]+ )*(\w[\w:-]*)|(start|test)\b)(?: -- ([^\n#)]+))?/g)].map(
      ([command, named, short, args = '']) => ({
        command: command.trim(),
        script: (named ?? short) as string,
        args: args.match(/(?:'[^']*'|[^\s'])+/g) ?? [],
      }),
    ),
  )

/** The options of a command, without their values. */
export const optionsOf = ({ args }: ScriptCall): string[] =>
  args.flatMap((arg) => arg.match(/^--?[a-z][\w-]*/)?.[0] ?? [])

/** Returns whether a help text names an option. */
export const namesOption = (help: string, option: string): boolean =>
  new RegExp(`(^|[\\s,])${option}\\b`, 'm').test(help)

export interface ScriptResult {
  code: number
  out: string
  err: string
}

/** Runs an npm script. */
export const runScript = (script: string, args: readonly string[]): Promise<ScriptResult> =>
  execute('npm', ['run', '--silent', script, '--', ...args])

const helps = new Map<string, Promise<string>>()

/** Returns the help text for a command. The words before the first option are subcommands. */
export function helpOf({ script, args }: ScriptCall): Promise<string> {
  const firstOption = args.findIndex((arg) => arg.startsWith('-'))
  const words = args.slice(0, firstOption === -1 ? args.length : firstOption)
  const key = [script, ...words].join(' ')
  const help = helps.get(key) ?? readHelp(script, words)
  helps.set(key, help)
  return help
}

const readHelp = async (script: string, words: readonly string[]): Promise<string> =>
  (await runScript(script, [...words, '--help'])).out

const execute = (file: string, args: readonly string[]): Promise<ScriptResult> =>
  new Promise((resolve) => {
    execFile(file, args, { cwd: root }, (error, out, err) => {
      resolve({ code: error ? Number(error.code) : 0, out, err })
    })
  })
