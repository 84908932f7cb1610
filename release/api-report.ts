/**
 * Describes the public API as text, so that a review shows each change of it: one file for each entry point, and one for
 * what the API refers to without exporting it. Reads what the build has emitted. With `--write`, writes the files.
 * Otherwise, fails if they differ.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript-5'
import { type Declarations, type EntryPoint, entryPointsOf, readDeclarations, readManifest } from './declarations.ts'
import { root } from './production-packages.ts'
import { augmentationsOf, exportsOf, findStatements, keyOf, reach, type Target } from './resolve-names.ts'

const directory = join(root, 'release/api')

/** The files of the report, by name. */
export type Report = ReadonlyMap<string, string>

/** Describes the exports of entry points, and everything that these refer to. */
export function createReport(entryPoints: readonly EntryPoint[]): Report {
  const modules = readDeclarations(entryPoints.map(({ file }) => file))
  const exportsBySpecifier = entryPoints.map(({ specifier, file }) => [specifier, exportsOf(modules, file)] as const)
  const all = exportsBySpecifier.flatMap(([, targets]) => [...targets.values()])
  const isExported = new Set(all.map(keyOf))
  const reached = [...reach(modules, all).values()]
  const printTarget = (target: Target, alias?: string): string[] => {
    const comment = alias && alias !== target.name ? `// exported as ${alias}\n` : ''
    if (!('file' in target)) return [`${comment}export { ${target.name} } from '${target.package}'`]
    const module = modules.get(target.file) as Declarations
    return findStatements(module, target.name).map((statement) => comment + print(module, statement))
  }
  const report = new Map<string, string>()
  for (const [specifier, targets] of exportsBySpecifier) {
    const names = [...targets].sort(([a], [b]) => compare(a, b))
    report.set(
      `${specifier.replaceAll('/', '-')}.api.md`,
      page(
        `\`${specifier}\``,
        names.flatMap(([name, target]) => printTarget(target, name)),
      ),
    )
  }
  const hidden = reached.filter((target) => !isExported.has(keyOf(target)))
  const files = new Set(reached.flatMap((target) => ('file' in target ? [target.file] : [])))
  const augmentations = [...files].flatMap((file) => {
    const module = modules.get(file) as Declarations
    return augmentationsOf(module).map((statement) => print(module, statement))
  })
  const own = hidden.filter((target) => 'file' in target).flatMap((target) => printTarget(target))
  const foreign = printImports(hidden.filter((target) => 'package' in target))
  report.set(
    'not-exported.api.md',
    page('Not exported', [foreign, ...own.sort(compare), ...augmentations.sort(compare)]),
  )
  return report
}

/** Prints the types of other packages that the API contains. */
function printImports(targets: readonly { package: string; name: string }[]): string {
  const byPackage = [...Map.groupBy(targets, (target) => target.package)].sort(([a], [b]) => compare(a, b))
  return byPackage
    .map(
      ([name, those]) =>
        `import { ${those
          .map((one) => one.name)
          .sort(compare)
          .join(', ')} } from '${name}'`,
    )
    .join('\n')
}

/** By code units, so that the order is the same on every machine. */
const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

const page = (title: string, parts: readonly string[]) =>
  `# ${title}\n\nWritten by \`npm run api:report\`.\n\n\`\`\`ts\n${parts.join('\n\n')}\n\`\`\`\n`

const printer = ts.createPrinter({ removeComments: true })

const print = ({ source }: Declarations, statement: ts.Statement): string =>
  printer.printNode(ts.EmitHint.Unspecified, statement, source).replace(/^(?:export )?(?:declare )?/, '')

/** Compares a report with the files of a directory. Returns the names of the files that differ. */
export function findChanges(report: Report, written: Report): string[] {
  const names = new Set([...report.keys(), ...written.keys()])
  return [...names].filter((name) => report.get(name) !== written.get(name)).sort(compare)
}

const readReport = (): Report =>
  new Map(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'utf8')]))

function write(report: Report): void {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory)
  for (const [name, text] of report) writeFileSync(join(directory, name), text)
}

function run(): boolean {
  const report = createReport(entryPointsOf(readManifest()))
  if (process.argv.includes('--write')) {
    write(report)
    return true
  }
  const changes = findChanges(report, readReport())
  for (const name of changes) {
    console.error(
      `The public API has changed: release/api/${name}. Run \`npm run api:report\` and review the difference.`,
    )
  }
  return changes.length === 0
}

if (import.meta.main) process.exitCode = run() ? 0 : 1
