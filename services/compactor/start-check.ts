// What is wrong with the settings of a compactor that no single one of them shows: found before anything starts.
import type { CompactorConfig } from './config.ts'

/** Throws RefusedError `err-carillon-policy-file`, `err-carillon-second-store`. */
export async function checkCompactor(config: CompactorConfig): Promise<void> {
  if (config.secondStore !== '') (await import('./scrub/second-store.ts')).folderOfSecondStore(config.secondStore)
  if (config.policyFile === '') return
  const { policiesFrom, readPolicyFile } = await import('./plan/retention-policy.ts')
  policiesFrom(config, readPolicyFile(config.policyFile))
}
