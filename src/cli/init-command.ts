import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigError } from '../config.ts'
import type { OutputOptions } from './output-options.ts'

const packageUrl = import.meta.resolve('accepted/package.json')
const templates = fileURLToPath(new URL('assets/init/', packageUrl))

/** Maximum number of files that an error names. */
const maxNamed = 3

/** Runs `accepted init`: writes the files of a minimal app to an empty directory. */
export async function initCommand({ json }: OutputOptions, directory: string): Promise<void> {
  // A repository is usually created first.
  const present = (await readdir(directory)).filter((name) => name !== '.git')
  if (present.length > 0) {
    const named = present.slice(0, maxNamed).join(', ') + (present.length > maxNamed ? ', …' : '')
    throw new ConfigError(
      `The directory ${directory} is not empty: it contains ${named}. Run \`accepted init\` in an empty directory.`,
    )
  }
  const values = await readValues(directory)
  const files = (await readdir(templates, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(templates.length))
  for (const file of files.sort()) {
    const target = join(directory, targetOf(file))
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, fill(await readFile(join(templates, file), 'utf8'), values), { flag: 'wx' })
  }
  const created = files.map(targetOf).sort()
  if (json) return console.log(JSON.stringify({ files: created }))
  console.log(`Created ${created.join(', ')}.\n\nNext:\n  npm install\n  npm run dev`)
}

/** npm leaves a .gitignore out of packages, and would take a package.json for that of a package. */
const targetOf = (file: string) => file.replace(/^_gitignore$/, '.gitignore').replace(/^_/, '')

/** Returns what replaces the placeholders in the templates: the name of the app, and the versions that this one uses. */
async function readValues(directory: string): Promise<Readonly<Record<string, string>>> {
  const { version, dependencies, devDependencies } = JSON.parse(await readFile(fileURLToPath(packageUrl), 'utf8'))
  const words =
    basename(directory)
      .toLowerCase()
      .match(/[a-z0-9]+/g) ?? []
  return { ...devDependencies, ...dependencies, name: words.join('-') || 'app', accepted: version }
}

const fill = (template: string, values: Readonly<Record<string, string>>) =>
  template.replaceAll(/\{\{([\w@/-]+)\}\}/g, (_, name: string) => values[name] as string)
