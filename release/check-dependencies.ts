/** Checks the packages that are installed with this one: their licenses, and the advisories about them. */
import { spawnSync } from 'node:child_process'
import {
  listProductionPackages,
  type ProductionPackage,
  readLockfile,
  referenceOf,
  root,
} from './production-packages.ts'

/** Permissive licenses (SPDX identifiers), which ask users of this package for a notice at most. */
const allowedLicenses = new Set(
  '0BSD Apache-2.0 BlueOak-1.0.0 BSD-2-Clause BSD-3-Clause CC0-1.0 ISC MIT Unlicense'.split(' '),
)

const failingSeverities = ['high', 'critical']
const fetchTimeoutMs = 10_000
/** npm itself takes a second, and much longer on a busy machine. */
const auditTimeoutMs = 60_000

/** Returns whether an SPDX expression lets a user choose allowed licenses only. Refuses nested expressions. */
export function isAllowed(license = ''): boolean {
  const expression = license.replace(/^\((.*)\)$/, '$1')
  const parts = expression.split(' OR ')
  if (parts.length > 1) return !expression.includes('(') && parts.some((part) => allowedLicenses.has(part))
  return expression.split(' AND ').every((part) => allowedLicenses.has(part))
}

/** Returns a line for each package without an allowed license. */
export const findLicenseViolations = (packages: readonly ProductionPackage[]): string[] =>
  packages
    .filter(({ license }) => !isAllowed(license))
    .map((one) => `${referenceOf(one)} has ${one.license ? `the license ${one.license}` : 'no license'}`)

/** What `npm audit --json` prints. */
interface AuditReport {
  /** Absent if the registry did not answer. */
  vulnerabilities?: Record<string, { nodes: string[]; via: (Advisory | string)[] }>
  message?: string
}

interface Advisory {
  severity: string
  title: string
  url: string
}

/**
 * Asks the registry for advisories.
 *
 * @returns a line for each serious one about a production package, or why the registry did not answer
 */
export function auditPackages(
  packages: readonly ProductionPackage[],
): { findings: string[] } | { unavailable: string } {
  const args = ['audit', '--json', '--fetch-retries=0', `--fetch-timeout=${fetchTimeoutMs}`]
  const { stdout, error } = spawnSync('npm', args, { cwd: root, encoding: 'utf8', timeout: auditTimeoutMs })
  if (error) return { unavailable: error.message }
  const { vulnerabilities, message = 'no answer' } = JSON.parse(stdout) as AuditReport
  if (!vulnerabilities) return { unavailable: message.replaceAll(/https?:\/\/\S+/g, 'the registry') }
  const paths = new Set(packages.flatMap((one) => one.paths))
  const inProduction = Object.entries(vulnerabilities).filter(([, { nodes }]) => nodes.some((node) => paths.has(node)))
  return {
    findings: inProduction.flatMap(([name, { via }]) =>
      via
        .filter((cause) => typeof cause === 'object')
        .filter(({ severity }) => failingSeverities.includes(severity))
        .map(({ severity, title, url }) => `${name}: ${title} (${severity}, ${url})`),
    ),
  }
}

function countLicenses(packages: readonly ProductionPackage[]): string {
  const groups = Map.groupBy(packages, ({ license }) => license ?? 'none')
  const counts = [...groups].map(([license, { length }]) => ({ license, length }))
  return counts
    .toSorted((a, b) => b.length - a.length)
    .map(({ license, length }) => `${license} ${length}`)
    .join(', ')
}

function check(): boolean {
  const packages = listProductionPackages(readLockfile())
  const violations = findLicenseViolations(packages)
  console.log(`Licenses of ${packages.length} production packages: ${countLicenses(packages)}`)
  for (const violation of violations) console.error(`License not allowed: ${violation}`)
  const audit = auditPackages(packages)
  if ('unavailable' in audit) console.warn(`Advisories not checked: ${audit.unavailable}`)
  else console.log(`Advisories of severity ${failingSeverities.join(' or ')}: ${audit.findings.length}`)
  const findings = 'findings' in audit ? audit.findings : []
  for (const finding of findings) console.error(`Advisory: ${finding}`)
  return violations.length + findings.length === 0
}

if (import.meta.main) process.exitCode = check() ? 0 : 1
