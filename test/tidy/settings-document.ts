// docs/settings.md: every setting of every command.
import { settingsSections } from '../../services/cli/settings.ts'
import { settingsMarkdown } from '../../shared/config/help.ts'

export async function settingsDocument(): Promise<string> {
  return `# Settings\n\nEvery setting is a flag, an environment variable and a key of the YAML or JSON file given by \`--config FILE\`.
A flag beats the variable, which beats the file, which beats the default. Durations are written \`5ms\`, \`1m30s\`, \`2w\`, \`1y\` (365 days);
sizes \`256KiB\`, \`8MB\`; lists with commas.\n\n${settingsMarkdown(await settingsSections())}`
}
